//! The GPUs of another machine, as the gateway there told at `/api/gpu`. Fetching it is not done
//! here.

use super::{Gpu, MAX_GPUS, MAX_PROCESSES, ProbeError, Report};

/// Longest body that is read, in bytes.
pub const MAX_BODY: usize = 1 << 20;
/// Oldest sample that says something about now, in milliseconds.
pub const MAX_AGE_MS: u64 = 60_000;
/// Longest text taken over, in bytes.
const MAX_TEXT: usize = 256;
/// More bytes than any GPU has; beyond it, sums could overflow.
const MAX_MEMORY: u64 = 1 << 50;
const PREFIX: &str = "remote:";

/// Reads the `/api/gpu` body of the gateway at `host`; ids get the prefix `remote:HOST/`.
///
/// GPUs that the other gateway itself has from elsewhere are left out: two gateways that read each
/// other would never come to an end.
///
/// # Errors
///
/// `Failed` if the body is too long, is not such a body, has values no GPU has, or is too old: the
/// probes of the other gateway do not answer.
pub fn parse(host: &str, body: &[u8]) -> Result<Vec<Gpu>, ProbeError> {
    if body.len() > MAX_BODY {
        return Err(failed(host, &format!("{} bytes are too many", body.len())));
    }
    let report: Report =
        serde_json::from_slice(body).map_err(|error| failed(host, &error.to_string()))?;
    if let Some(age) = report.age_ms.filter(|age| *age > MAX_AGE_MS) {
        return Err(failed(host, &format!("its sample is {} s old", age / 1000)));
    }
    let mut gpus = report.sample.gpus;
    gpus.retain(|gpu| !gpu.id.starts_with(PREFIX));
    if gpus.len() > MAX_GPUS {
        return Err(failed(host, &format!("{} GPUs are too many", gpus.len())));
    }
    for gpu in &mut gpus {
        check(gpu).map_err(|what| failed(host, what))?;
        gpu.id = format!("{PREFIX}{host}/{}", gpu.id);
        gpu.processes.truncate(MAX_PROCESSES);
    }
    Ok(gpus)
}

fn failed(host: &str, why: &str) -> ProbeError {
    ProbeError::Failed(format!("the GPUs of {host}: {why}"))
}

fn check(gpu: &Gpu) -> Result<(), &'static str> {
    let texts = [Some(&gpu.id), Some(&gpu.name), gpu.uuid.as_ref()];
    if gpu.id.is_empty() || texts.into_iter().flatten().any(|text| !plain(text)) {
        return Err("an id or a name is empty, too long, or not plain text");
    }
    if gpu.memory_total == 0 || gpu.memory_total > MAX_MEMORY {
        return Err("a GPU has no memory, or too much");
    }
    if gpu.memory_used > gpu.memory_total {
        return Err("a GPU uses more memory than it has");
    }
    if !gpu.utilization.is_none_or(|part| (0.0..=1.0).contains(&part)) {
        return Err("a utilization is not between 0 and 1");
    }
    let others = [gpu.temperature, gpu.power, gpu.power_limit];
    if others.into_iter().flatten().any(|value| !value.is_finite() || value < 0.0) {
        return Err("a temperature or a power is negative or not a number");
    }
    Ok(())
}

/// Ids end up in logs and metrics.
fn plain(text: &str) -> bool {
    text.len() <= MAX_TEXT && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Sample, test_data};
    use super::*;

    fn gpu(id: &str) -> Gpu {
        test_data::gpu(id, 1 << 30)
    }

    fn body(gpus: Vec<Gpu>) -> Vec<u8> {
        let sample = Sample { taken_unix_ms: 1, gpus, problem: None };
        serde_json::to_vec(&Report { age_ms: Some(900), sample }).expect("json")
    }

    #[test]
    fn reads_what_a_gateway_writes() {
        let read = parse("10.0.0.7:8080", &body(vec![gpu("nvml:0"), gpu("amdgpu:card1")]));
        let read = read.expect("a good body");
        assert_eq!(read[0].id, "remote:10.0.0.7:8080/nvml:0");
        assert_eq!(read[1], Gpu { id: "remote:10.0.0.7:8080/amdgpu:card1".into(), ..gpu("") });
    }

    #[test]
    fn fields_of_a_later_version_are_ignored_and_absent_ones_are_unknown() {
        let body = br#"{"taken_unix_ms":5,"new":1,"gpus":[
            {"id":"nvml:0","name":"x","memory_total":8,"memory_used":2,"fan":3}]}"#;
        let read = parse("h", body).expect("enough");
        assert_eq!((read[0].utilization, read[0].memory_free()), (None, 6));
    }

    #[test]
    fn gpus_from_a_third_machine_are_left_out() {
        let read = parse("b", &body(vec![gpu("remote:a/nvml:0"), gpu("nvml:0")])).expect("good");
        assert_eq!(read.len(), 1);
    }

    #[test]
    fn values_no_gpu_has_are_refused() {
        let bad = [
            Gpu { memory_total: 0, memory_used: 0, ..gpu("a") },
            Gpu { memory_total: u64::MAX, ..gpu("a") },
            Gpu { memory_used: 25 << 30, ..gpu("a") },
            Gpu { utilization: Some(1.01), ..gpu("a") },
            Gpu { utilization: Some(-0.1), ..gpu("a") },
            Gpu { power: Some(-1.0), ..gpu("a") },
            Gpu { name: "x".repeat(300), ..gpu("a") },
            Gpu { id: "a\nb".to_owned(), ..gpu("a") },
            gpu(""),
        ];
        for gpu in bad {
            assert!(parse("h", &body(vec![gpu.clone()])).is_err(), "{gpu:?}");
        }
        assert!(check(&Gpu { temperature: Some(f64::NAN), ..gpu("a") }).is_err());
        assert!(check(&Gpu { utilization: Some(f64::NAN), ..gpu("a") }).is_err());
        let many = (0..65).map(|number| gpu(&format!("nvml:{number}"))).collect();
        assert!(parse("h", &body(many)).is_err());
        let mut long = body(vec![gpu("nvml:0")]);
        long.resize(MAX_BODY, b' ');
        assert!(parse("h", &long).is_ok());
        long.push(b' ');
        assert!(parse("h", &long).is_err());
        assert!(parse("h", br#"{"gpus":[{"id":"a","memory_total":-1}]}"#).is_err());
        assert!(parse("h", br#"{"taken_unix_ms":1,"gpus":[{"power":1e999}]}"#).is_err());
    }

    #[test]
    fn an_old_sample_says_nothing() {
        let body = br#"{"age_ms":61000,"taken_unix_ms":5,"gpus":[]}"#;
        let error = parse("h", body).expect_err("old");
        assert!(error.to_string().contains("61 s old"), "{error}");
        assert!(parse("h", br#"{"age_ms":null,"taken_unix_ms":0,"gpus":[]}"#).is_ok());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(body in proptest::collection::vec(any::<u8>(), 0..512)) {
            drop(parse("h", &body));
        }

        #[test]
        fn a_damaged_body_gives_an_error_or_gpus_within_bounds(
            at in 0_usize..400, with in any::<u8>(), cut in 0_usize..400,
        ) {
            let mut body = body(vec![gpu("nvml:0"), gpu("nvml:1")]);
            let at = at % body.len();
            body[at] = with;
            body.drain(cut.min(body.len())..(cut + cut % 3).min(body.len()));
            for gpu in parse("h", &body).unwrap_or_default() {
                prop_assert!(gpu.memory_used <= gpu.memory_total);
                prop_assert!(gpu.utilization.is_none_or(|part| (0.0..=1.0).contains(&part)));
            }
        }
    }
}
