//! Every metric's name, unit and meaning, once.
//!
//! OpenTelemetry's GenAI name where there is one, else `sluicegate_<stage>_<what>_<unit>[_total]`,
//! in base units. Labels come from the configuration or are bounded by [`super::series`].

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Answered requests by endpoint, upstream, model and status.
pub const REQUESTS: &str = "sluicegate_requests_total";
/// Requests of callers with a key, by caller and status.
pub const CALLER_REQUESTS: &str = "sluicegate_caller_requests_total";
/// Tokens that upstreams reported for them, by caller and type.
pub const CALLER_TOKENS: &str = "sluicegate_caller_tokens_total";
/// From the request's header to the answer's last byte.
pub const DURATION: &str = "gen_ai_server_request_duration_seconds";
/// From the request's header to the first generated content.
pub const FIRST_TOKEN: &str = "gen_ai_server_time_to_first_token_seconds";
/// Mean time per generated token after the first.
pub const PER_TOKEN: &str = "gen_ai_server_time_per_output_token_seconds";
/// Tokens of a request by type.
pub const TOKENS: &str = "gen_ai_client_token_usage";
/// The gateway's own share of a request's time before its answer began.
pub const OVERHEAD: &str = "sluicegate_gateway_overhead_seconds";
/// Time spent waiting for a place.
pub const QUEUE: &str = "sluicegate_admission_queue_seconds";
/// Requests that wait for a place.
pub const WAITING: &str = "sluicegate_admission_waiting";
/// Requests that hold a place.
pub const IN_FLIGHT: &str = "sluicegate_admission_in_flight";
/// Requests no place was found for, by reason.
pub const REFUSED: &str = "sluicegate_admission_refused_total";
/// 0 closed, 1 half-open, 2 open.
pub const BREAKER: &str = "sluicegate_breaker_state";
/// Failed attempts by upstream and reason.
pub const FAILURES: &str = "sluicegate_upstream_failures_total";
/// 1 when the upstream answered its last probe or list, else 0.
pub const UP: &str = "sluicegate_upstream_up";
/// Requests of whose prompt an upstream left something out, by upstream.
pub const PROMPTS_CUT: &str = "sluicegate_prompts_cut_total";
/// Requests whose client left, by phase.
pub const CANCELLED: &str = "sluicegate_cancellations_total";
/// Client connections open.
pub const CONNECTIONS: &str = "sluicegate_listener_connections";
/// Client connections turned away at the limit.
pub const CONNECTIONS_REFUSED: &str = "sluicegate_listener_refused_total";
/// Bytes of request bodies held.
pub const BODY_BYTES: &str = "sluicegate_request_body_bytes";
/// Configuration reloads by result.
pub const RELOADS: &str = "sluicegate_config_reloads_total";
/// 1 when the configuration file, as it was last read, is in force; 0 while it is not for being wrong.
pub const RELOADED: &str = "sluicegate_config_last_reload_successful";
/// When the configuration in force was read, in seconds since 1970.
pub const RELOADED_AT: &str = "sluicegate_config_last_reload_success_timestamp_seconds";
/// A number that tells the text of the configuration in force from others: replicas have the same.
pub const CONFIG_HASH: &str = "sluicegate_config_hash";
/// Decisions of plugins in shadow mode: `different` when they would have changed something.
pub const PLUGIN_SHADOW: &str = "sluicegate_plugin_shadow_total";
/// Calls not made because the plugin failed too often.
pub const PLUGIN_SKIPPED: &str = "sluicegate_plugin_skipped_total";
/// Plugins loaded anew by result.
pub const PLUGIN_RELOADS: &str = "sluicegate_plugin_reloads_total";
/// Access-log lines lost because standard output was not read.
pub const LOG_DROPPED: &str = "sluicegate_access_log_dropped_total";
/// Requests by what the cache had to do with them: `hit`, `miss`, `bypass`; by level and reason.
pub const CACHE_LOOKUPS: &str = "sluicegate_cache_lookups_total";
/// Answers held in memory.
pub const CACHE_ENTRIES: &str = "sluicegate_cache_entries";
/// Questions remembered to be found in other words.
pub const CACHE_QUESTIONS: &str = "sluicegate_cache_questions";
/// 1 while the vectors of questions lie in Redis, 0 while in memory.
pub const CACHE_VECTORS_SHARED: &str = "sluicegate_cache_vectors_shared";
/// Time to get an embedding of a question.
pub const CACHE_EMBED_SECONDS: &str = "sluicegate_cache_embed_seconds";
/// Bytes of questions and answers on disk.
pub const CACHE_DISK_BYTES: &str = "sluicegate_cache_disk_bytes";
/// Cosine of questions given another's answer.
pub const CACHE_SIMILARITY: &str = "sluicegate_cache_similarity";
/// Bytes they take.
pub const CACHE_BYTES: &str = "sluicegate_cache_bytes";
/// Answers that had to make room.
pub const CACHE_EVICTED: &str = "sluicegate_cache_evictions_total";
/// Answers that could not be kept, by reason.
pub const CACHE_WRITE_FAILURES: &str = "sluicegate_cache_write_failures_total";
/// News of other replicas that could not be read, by reason.
pub const CACHE_NEWS_FAILURES: &str = "sluicegate_cache_news_failures_total";
/// Answers not kept because of what they are, by reason.
pub const CACHE_UNFIT: &str = "sluicegate_cache_unfit_total";
/// 1 while the cache's Redis is asked, 0 while it is left alone.
pub const CACHE_UP: &str = "sluicegate_cache_backend_up";
/// Requests that followed an equal one.
pub const CACHE_FOLLOWERS: &str = "sluicegate_cache_followers_total";
/// Generating time that hits saved, as their answers took it.
pub const CACHE_SAVED_SECONDS: &str = "sluicegate_cache_saved_seconds_total";
/// Tokens that hits saved, by type.
pub const CACHE_SAVED_TOKENS: &str = "sluicegate_cache_saved_tokens_total";
/// Answers that callers called wrong.
pub const CACHE_BLAMED: &str = "sluicegate_cache_blamed_total";
/// Hits in shadow mode, by whether the fresh answer was the same.
pub const CACHE_SHADOW: &str = "sluicegate_cache_shadow_total";
/// Memory of a GPU that is taken, by whomever.
pub const GPU_MEMORY_USED: &str = "sluicegate_gpu_memory_used_bytes";
/// Memory of a GPU.
pub const GPU_MEMORY_TOTAL: &str = "sluicegate_gpu_memory_total_bytes";
/// Share of the last moments in which a GPU was at work, 0 to 1.
pub const GPU_UTILIZATION: &str = "sluicegate_gpu_utilization_ratio";
/// Temperature of a GPU.
pub const GPU_TEMPERATURE: &str = "sluicegate_gpu_temperature_celsius";
/// Power a GPU takes.
pub const GPU_POWER: &str = "sluicegate_gpu_power_watts";
/// Age of what is known of GPUs: it grows when they cannot be read.
pub const GPU_AGE: &str = "sluicegate_gpu_sample_age_seconds";
/// Loads of models by result.
pub const LOADS: &str = "sluicegate_residency_loads_total";
/// Time to load a model.
pub const LOAD_SECONDS: &str = "sluicegate_residency_load_seconds";
/// Models evicted to make room.
pub const EVICTIONS: &str = "sluicegate_residency_evictions_total";
/// Bytes of VRAM that a loaded model takes.
pub const RESIDENT_BYTES: &str = "sluicegate_residency_model_vram_bytes";
/// Share of a loaded model that is on GPUs, 0 to 1.
pub const RESIDENT_RATIO: &str = "sluicegate_residency_gpu_ratio";
/// Bytes of VRAM that models could be loaded into, idle ones evicted.
pub const HEADROOM: &str = "sluicegate_admission_headroom_bytes";
/// What admission decided about requests that did not run at once: `wait`, `load`, `no_room`, `partial`, `refuse`.
pub const DECISIONS: &str = "sluicegate_admission_decisions_total";
/// Changes of a breaker's state by why.
pub const BREAKER_CHANGES: &str = "sluicegate_breaker_changes_total";
/// Changes of the state of one model's breaker by why.
pub const MODEL_BREAKER_CHANGES: &str = "sluicegate_model_breaker_changes_total";
/// 1 while an upstream's container runs, else 0.
pub const CONTAINER_UP: &str = "sluicegate_upstream_container_up";
/// Always 1; the version is a label.
pub const BUILD: &str = "sluicegate_build_info";

/// Bucket bounds of histograms of seconds.
pub const SECONDS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
    30.0, 120.0, 600.0,
];
/// Bucket bounds of histograms of tokens.
pub const TOKEN_COUNTS: [f64; 12] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
];

/// Bucket bounds of histograms of cosines.
pub const SIMILARITIES: [f64; 10] = [0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99, 1.0];

/// Registers every help text.
pub fn describe() {
    describe_counter!(REQUESTS, "Answered requests.");
    describe_counter!(CALLER_REQUESTS, "Requests of callers with a key.");
    describe_counter!(CALLER_TOKENS, "Tokens of callers with a key.");
    describe_histogram!(DURATION, Unit::Seconds, "From request header to last byte.");
    describe_histogram!(FIRST_TOKEN, Unit::Seconds, "From request header to first content.");
    describe_histogram!(PER_TOKEN, Unit::Seconds, "Mean time per generated token after the first.");
    describe_histogram!(TOKENS, "Tokens of a request.");
    describe_histogram!(OVERHEAD, Unit::Seconds, "The gateway's own time before the answer began.");
    describe_histogram!(QUEUE, Unit::Seconds, "Time spent waiting for a place.");
    describe_gauge!(WAITING, "Requests that wait for a place.");
    describe_gauge!(IN_FLIGHT, "Requests that hold a place.");
    describe_counter!(REFUSED, "Requests no place was found for.");
    describe_gauge!(BREAKER, "Breaker state: 0 closed, 1 half-open, 2 open.");
    describe_counter!(FAILURES, "Failed attempts at an upstream.");
    describe_gauge!(UP, "1 when the upstream answered when last asked.");
    describe_counter!(PROMPTS_CUT, "Requests whose prompt was longer than the model's context.");
    describe_counter!(CANCELLED, "Requests whose client left.");
    describe_gauge!(CONNECTIONS, "Client connections open.");
    describe_counter!(CONNECTIONS_REFUSED, "Client connections turned away at the limit.");
    describe_gauge!(BODY_BYTES, Unit::Bytes, "Request body bytes held.");
    describe_counter!(RELOADS, "Configuration reloads.");
    describe_gauge!(RELOADED, "1 when the configuration file as last read is in force.");
    describe_gauge!(RELOADED_AT, Unit::Seconds, "When the configuration in force was read.");
    describe_gauge!(CONFIG_HASH, "Tells the text of the configuration in force from others.");
    describe_counter!(PLUGIN_SHADOW, "Decisions of plugins in shadow mode.");
    describe_counter!(PLUGIN_SKIPPED, "Plugin calls not made after too many failures.");
    describe_counter!(PLUGIN_RELOADS, "Plugins loaded anew.");
    describe_counter!(LOG_DROPPED, "Access log lines lost.");
    describe_counter!(CACHE_LOOKUPS, "Requests by what the cache had to do with them.");
    describe_gauge!(
        CACHE_ENTRIES,
        "Answers held in memory; with a Redis, copies of those it gave lately."
    );
    describe_gauge!(CACHE_QUESTIONS, "Questions remembered to be found in other words.");
    describe_gauge!(CACHE_VECTORS_SHARED, "1 while the vectors of questions lie in Redis.");
    describe_histogram!(CACHE_EMBED_SECONDS, Unit::Seconds, "Time to get an embedding.");
    describe_gauge!(CACHE_DISK_BYTES, Unit::Bytes, "Bytes of questions and answers on disk.");
    describe_histogram!(CACHE_SIMILARITY, "Cosine of questions given another's answer.");
    describe_gauge!(CACHE_BYTES, Unit::Bytes, "Bytes of answers held in memory.");
    describe_counter!(CACHE_EVICTED, "Answers that had to make room.");
    describe_counter!(CACHE_WRITE_FAILURES, "Answers that could not be kept.");
    describe_counter!(CACHE_NEWS_FAILURES, "News of other replicas that could not be read.");
    describe_counter!(CACHE_UNFIT, "Answers not kept because of what they are.");
    describe_gauge!(CACHE_UP, "1 while the cache's Redis is asked.");
    describe_counter!(CACHE_FOLLOWERS, "Requests that followed an equal one.");
    describe_counter!(CACHE_SAVED_SECONDS, Unit::Seconds, "Generating time that hits saved.");
    describe_counter!(CACHE_SAVED_TOKENS, "Tokens that hits saved.");
    describe_counter!(CACHE_BLAMED, "Answers that callers called wrong.");
    describe_counter!(CACHE_SHADOW, "Hits in shadow mode.");
    describe_gauge!(GPU_MEMORY_USED, Unit::Bytes, "Memory of a GPU that is taken.");
    describe_gauge!(GPU_MEMORY_TOTAL, Unit::Bytes, "Memory of a GPU.");
    describe_gauge!(GPU_UTILIZATION, "Share of time in which a GPU was at work.");
    describe_gauge!(GPU_TEMPERATURE, "Temperature of a GPU.");
    describe_gauge!(GPU_POWER, "Power a GPU takes.");
    describe_gauge!(GPU_AGE, Unit::Seconds, "Age of what is known of GPUs.");
    describe_counter!(LOADS, "Loads of models.");
    describe_histogram!(LOAD_SECONDS, Unit::Seconds, "Time to load a model.");
    describe_counter!(EVICTIONS, "Models evicted to make room.");
    describe_gauge!(RESIDENT_BYTES, Unit::Bytes, "VRAM that a loaded model takes.");
    describe_gauge!(RESIDENT_RATIO, "Share of a loaded model that is on GPUs.");
    describe_gauge!(HEADROOM, Unit::Bytes, "VRAM that models could be loaded into.");
    describe_counter!(DECISIONS, "What admission decided, where a request did not run at once.");
    describe_counter!(BREAKER_CHANGES, "Changes of a breaker's state.");
    describe_counter!(MODEL_BREAKER_CHANGES, "Changes of the state of one model's breaker.");
    describe_gauge!(CONTAINER_UP, "1 while an upstream's container runs.");
    describe_gauge!(BUILD, "Always 1; the version is a label.");
}
