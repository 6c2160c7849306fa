//! Memory: it is counted, given back, and what was given back still works.

use palisade_sys::memory::{self, SharedNumber};
use palisade_sys::{Errno, process};

use crate::help::{self, good, good_as_nobody, refused, start};
use crate::runner::cases;

cases![
    private_memory_is_what_a_process_touched,
    trim_gives_free_memory_back,
    released_pages_come_again_and_the_process_works,
    a_shared_number_is_one_number,
];

/// Slack for what the measuring itself and the C library touch.
const SLACK_KIB: u64 = 1024;

fn private() -> u64 {
    memory::private_kib(process::getpid()).unwrap()
}

fn private_memory_is_what_a_process_touched() {
    const MIB: u64 = 24;
    let before = private();
    let memory = vec![1_u8; usize::try_from(MIB).unwrap() << 20];
    std::hint::black_box(&memory);
    let with = private();
    assert!(with >= before + MIB * 1024 && with <= before + MIB * 1024 + SLACK_KIB, "{before} {with}");
    // A child shares it until it writes.
    let child = start(0, || help::forever());
    assert!(memory::private_kib(child.pid).unwrap() < MIB * 1024);
    child.kill(libc::SIGKILL);
    drop(memory);
    assert!(private() <= before + SLACK_KIB);
    let case = process::getpid();
    good_as_nobody(|| drop(refused(memory::private_kib(case), Errno::EACCES)));
    refused(memory::private_kib(i32::MAX), Errno::ENOENT);
}

fn trim_gives_free_memory_back() {
    good(0, || {
        let mut blocks: Vec<Vec<u8>> = (0..16_384).map(|_| vec![1_u8; 1024]).collect();
        let full = private();
        // The last block holds the end of the heap, so that freeing alone gives nothing back.
        let last = blocks.pop();
        drop(blocks);
        let freed = private();
        assert!(freed > full - 4 * 1024, "freeing gave it back by itself: {full} {freed}");
        memory::trim();
        let trimmed = private();
        assert!(trimmed + 12 * 1024 < freed, "{freed} {trimmed}");
        assert_eq!(std::hint::black_box(last).unwrap(), vec![1_u8; 1024]);
    });
}

fn resident() -> u64 {
    help::line(&help::own("smaps_rollup"), "Rss").split(' ').next().unwrap().parse().unwrap()
}

fn released_pages_come_again_and_the_process_works() {
    static TABLE: [&str; 3] = ["constants", "with", "relocations"];
    let work = || {
        let text = format!("{:?} {:.3} {}", TABLE, std::hint::black_box(2.0_f64).sqrt(), i128::MAX);
        let mut words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        words.sort();
        let failed = "no number".parse::<u64>().map_err(|error| error.to_string());
        (words, failed, std::fs::read_to_string("/proc/self/comm").unwrap())
    };
    good(0, || {
        let expected = work();
        let panics = || std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(7)));
        assert!(panics().is_err());
        let (before, rss) = (private(), resident());
        for _ in 0..3 {
            memory::release_file_pages().unwrap();
            assert_eq!(work(), expected);
            assert_eq!(panics().unwrap_err().downcast_ref::<i32>(), Some(&7));
            let out = help::run(0, || process::exit_now(i32::from(work() != expected)));
            assert_eq!(out.ended, process::Ended::Exited(0));
        }
        assert!(private() <= before + 256, "{before} {}", private());
        memory::release_file_pages().unwrap();
        assert!(resident() < rss, "{rss} {}", resident());
    });
}

fn a_shared_number_is_one_number() {
    let shared = SharedNumber::new(1).unwrap();
    let mut own = 1;
    good(0, || {
        shared.set(2);
        own += 1;
        assert_eq!(own, 2);
    });
    assert_eq!((shared.get(), own), (2, 1));
}
