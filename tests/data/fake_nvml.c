/*
 * A stand-in for libnvidia-ml.so.1, for tests: the functions the gateway calls, scripted by a file.
 *
 * CONTROL (given with -D) names a file of `key=value` lines that is read again on every call:
 *
 *   count          GPUs (2)
 *   first          number of the GPU at position 0; the others follow (0)
 *   init           what nvmlInit_v2 returns (0)
 *   epoch          raise it to restart the driver: until the next nvmlInit_v2 every call fails (1)
 *   stale          what calls return after such a restart (1, uninitialized)
 *   lost           number of a GPU that fell off the bus (-1)
 *   denied         number of a GPU that this process may not open (-1)
 *   broken         number of a GPU whose every value is an unknown error (-1)
 *   mig            number of a GPU in MIG mode (-1), with `instances` (2) devices at index 0, 2, ...
 *   memory, utilization, temperature, power, limit, uuid   what those calls return (0)
 *   integrated     1: the memory size reads as 0 (0)
 *   processes      compute processes of every GPU (1); their memory is unknown with pid_memory=0 (1)
 *   grow           1: processes start between the two calls, once (0)
 *   sleep_ms       every call takes this long (0)
 *
 * Each nvmlInit_v2 and nvmlShutdown appends a letter to CONTROL ".log".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4,
    NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15, UNKNOWN = 999,
};

typedef struct { int number, instance; } device;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } process;

#define GIB (1ULL << 30)
#define MAX 80
#define NONE (-1)

static device devices[MAX][8];
static int opened = 0, epoch = 0, grown = 0;

static int script(const char *key, int otherwise) {
    char line[128];
    int value = otherwise;
    size_t length = strlen(key);
    FILE *file = fopen(CONTROL, "r");
    if (!file) return otherwise;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, key, length) && line[length] == '=') value = atoi(line + length + 1);
    fclose(file);
    return value;
}

static void record(char letter) {
    FILE *file = fopen(CONTROL ".log", "a");
    if (!file) return;
    fputc(letter, file);
    fclose(file);
}

static void pause_a_while(void) {
    int ms = script("sleep_ms", 0);
    struct timespec time = { ms / 1000, (ms % 1000) * 1000000L };
    if (ms) nanosleep(&time, NULL);
}

/* What every call checks first. */
static int alive(const device *d) {
    pause_a_while();
    if (!opened) return UNINITIALIZED;
    if (script("epoch", 1) != epoch) return script("stale", UNINITIALIZED);
    if (d && d->number == script("lost", NONE)) return GPU_IS_LOST;
    if (d && d->number == script("broken", NONE)) return UNKNOWN;
    return SUCCESS;
}

/* A call on a device whose answer the script may refuse. */
static int call(const device *d, const char *key) {
    int code = alive(d);
    return code ? code : script(key, SUCCESS);
}

int nvmlInit_v2(void) {
    int code = script("init", SUCCESS);
    pause_a_while();
    if (code) return code;
    opened = 1;
    epoch = script("epoch", 1);
    record('i');
    return SUCCESS;
}

#ifndef NO_SHUTDOWN
int nvmlShutdown(void) {
    opened = 0;
    record('s');
    return SUCCESS;
}
#endif

const char *nvmlErrorString(int code) {
    (void)code;
    return "an error";
}

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    snprintf(text, length, "580.95.05");
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    int code = alive(NULL);
    *count = script("count", 2);
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **found) {
    int code = alive(NULL), number = (int)index + script("first", 0);
    if (code) return code;
    if (index >= (unsigned)script("count", 2) || number >= MAX) return INVALID_ARGUMENT;
    if (number == script("denied", NONE)) return NO_PERMISSION;
    *found = &devices[number][0];
    **found = (device){ number, NONE };
    return alive(*found);
}

int nvmlDeviceGetName(device *d, char *text, unsigned length) {
    int code = alive(d);
    snprintf(text, length, d->instance == NONE ? "Fake GPU %d" : "Fake GPU %d MIG 1g.5gb", d->number);
    return code;
}

int nvmlDeviceGetUUID(device *d, char *text, unsigned length) {
    int code = call(d, "uuid");
    if (d->instance == NONE) snprintf(text, length, "GPU-0000-%d", d->number);
    else snprintf(text, length, "MIG-0000-%d-%d", d->number, d->instance);
    return code;
}

int nvmlDeviceGetMemoryInfo_v2(device *d, memory_v2 *memory) {
    int code = call(d, "memory");
    if (code) return code;
    if (memory->version != (sizeof *memory | 2 << 24)) return INVALID_ARGUMENT;
    memory->total = script("integrated", 0) ? 0 : d->instance == NONE ? 24 * GIB : 5 * GIB;
    memory->reserved = GIB / 2;
    memory->used = (1 + d->number) * GIB;
    memory->free = memory->total ? memory->total - memory->reserved - memory->used : 0;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(device *d, utilization *rates) {
    int code = call(d, "utilization");
    rates->gpu = 40 + d->number;
    rates->memory = 7;
    return d->instance == NONE ? code : NOT_SUPPORTED;
}

int nvmlDeviceGetTemperature(device *d, int sensor, unsigned *celsius) {
    int code = call(d, "temperature");
    *celsius = 60 + d->number;
    return sensor ? INVALID_ARGUMENT : d->instance == NONE ? code : INVALID_ARGUMENT;
}

int nvmlDeviceGetPowerUsage(device *d, unsigned *milliwatts) {
    int code = call(d, "power");
    *milliwatts = 250500;
    return d->instance == NONE ? code : NOT_SUPPORTED;
}

int nvmlDeviceGetEnforcedPowerLimit(device *d, unsigned *milliwatts) {
    int code = call(d, "limit");
    *milliwatts = 450000;
    return d->instance == NONE ? code : NOT_SUPPORTED;
}

/* As the real one: too little room gives the number there is. */
int nvmlDeviceGetComputeRunningProcesses_v3(device *d, unsigned *count, process *processes) {
    int code = alive(d);
    unsigned i, have = *count, there = script("processes", 1);
    if (code) return code;
    if (processes && script("grow", 0) && !grown) { grown = 1; there += 6; }
    *count = there;
    if (have < there) return INSUFFICIENT_SIZE;
    for (i = 0; i < there; i++) {
        processes[i].pid = 1000 + 100 * d->number + i;
        processes[i].used = script("pid_memory", 1) ? (i + 1) * GIB : ~0ULL;
        processes[i].gi = processes[i].ci = ~0U;
    }
    return SUCCESS;
}

/* One that computes and draws is in both lists. */
int nvmlDeviceGetGraphicsRunningProcesses_v3(device *d, unsigned *count, process *processes) {
    int code = alive(d);
    unsigned have = *count;
    if (code) return code;
    *count = 2;
    if (have < 2) return INSUFFICIENT_SIZE;
    processes[0] = (process){ 1000 + 100 * d->number, GIB / 4, ~0U, ~0U };
    processes[1] = (process){ 77, GIB / 8, ~0U, ~0U };
    return SUCCESS;
}

int nvmlDeviceGetMigMode(device *d, unsigned *now, unsigned *pending) {
    int code = alive(d);
    int mig = script("mig", NONE);
    if (code) return code;
    if (mig == NONE) return NOT_SUPPORTED;
    *now = *pending = mig == d->number;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(device *d, unsigned *count) {
    int code = alive(d);
    *count = 7;
    return code;
}

int nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned index, device **found) {
    int code = alive(d);
    if (code) return code;
    if (index >= 7 || index % 2 || (int)index / 2 >= script("instances", 2)) return NOT_FOUND;
    *found = &devices[d->number][1 + index];
    **found = (device){ d->number, (int)index };
    return SUCCESS;
}
