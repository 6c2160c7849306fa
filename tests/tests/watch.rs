//! What is used while a workload runs: `run --watch` and `run --samples`.

use palisade_tests::{Run, Scratch, is_root};
use serde_json::Value;

const LIMITS: &str = r#"Policy(version: 1, plugins: {
    "cgroups": (memory: (max: "256MiB"), cpu: (max: "50%"), pids: (max: 50)),
})"#;

/// Spins for about two seconds, and says something on each stream.
const SPIN: &str =
    "echo out; echo err >&2; i=0; end=$(($(date +%s) + 3)); while [ $(date +%s) -lt $end ]; do i=$((i+1)); done";

#[test]
fn usage_is_said_once_a_second_and_at_the_end() {
    if !is_root() {
        return palisade_tests::skip("watch:root", "an ordinary user has no cgroups here");
    }
    let scratch = Scratch::new();
    let policy = scratch.policy(LIMITS);
    let words = ["run", "--watch", "--policy", policy.to_str().unwrap(), "--", "sh", "-c", SPIN];
    let ran = Run::palisade(words).ran().code(0);
    assert_eq!(ran.stdout, "out\n", "nothing is mixed into the workload's output");
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("palisade: ")).collect();
    assert!((3..=4).contains(&lines.len()), "{}", ran.stderr);
    assert!(lines[0].starts_with("palisade: 1.0 s  cpu throttled "), "{}", lines[0]);
    for part in ["  cpu throttled ", " %", "  memory ", "  pids "] {
        assert!(lines[1].contains(part), "no {part:?} in {}", lines[1]);
    }
    assert!(ran.stderr.contains("err\n"));
    let quiet =
        Run::palisade(["run", "--policy", policy.to_str().unwrap(), "--", "sh", "-c", "sleep 1.2"]).ran().code(0);
    assert_eq!(quiet.stderr, "", "without the option nothing is said");
}

#[test]
fn the_report_holds_the_series() {
    if !is_root() {
        return palisade_tests::skip("watch:root", "an ordinary user has no cgroups here");
    }
    let scratch = Scratch::new();
    let policy = scratch.policy(LIMITS);
    let policy = policy.to_str().unwrap();
    let report = |more: &[&str], command: &str| -> Value {
        let file = scratch.path().join("report");
        let words = ["run", "--report", file.to_str().unwrap(), "--policy", policy];
        let words = words.iter().chain(more).copied().chain(["--", "sh", "-c", command]);
        Run::palisade(words).ran().code(0);
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap()
    };
    assert!(report(&[], "true").get("series").is_none(), "it is there only where it was asked for");
    let made = report(&["--samples", "100ms"], SPIN);
    let series = &made["series"];
    assert_eq!(series["interval_ms"], 100);
    let samples = series["samples"].as_array().unwrap();
    assert!((15..=35).contains(&samples.len()), "{}", samples.len());
    let of =
        |sample: &Value, name: &str| sample["figures"][name].as_u64().unwrap_or_else(|| panic!("{name}: {sample}"));
    for pair in samples.windows(2) {
        assert!(pair[0]["at_ms"].as_u64() < pair[1]["at_ms"].as_u64());
        assert!(of(&pair[0], "cpu_throttled_us") <= of(&pair[1], "cpu_throttled_us"));
    }
    assert!(
        samples[..samples.len() - 1].iter().all(|sample| of(sample, "pids") >= 1 && of(sample, "memory_bytes") > 0)
    );
    let last = &samples[samples.len() - 1];
    assert_eq!(of(last, "cpu_throttled_us"), made["usage"]["figures"]["cpu_throttled_us"].as_u64().unwrap());
    assert_eq!(of(last, "pids"), 0, "it was taken when all had ended");
}

#[test]
fn an_interval_that_makes_no_sense_is_refused() {
    let with = |interval: &str| Run::palisade(["run", "--report", "-", "--samples", interval, "--", "true"]).ran();
    with("1ms").code(2).says("less than 10ms");
    with("fast").code(2).says("not a length of time");
    with("100").code(2).says("100");
    Run::palisade(["run", "--samples", "1s", "--", "true"]).ran().code(2).says("--report");
}
