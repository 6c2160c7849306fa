//! Which block device is meant: limits of input and output hold for whole disks, and a policy names paths.

use crate::layout::Version;
use palisade_abi::Error;
use std::fmt;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// The number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number(u32, u32);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

fn parse(text: &str) -> Option<Number> {
    let (major, minor) = text.trim_end().split_once(':')?;
    Some(Number(major.parse().ok()?, minor.parse().ok()?))
}

/// Takes apart a `dev_t` as the C library has it: makedev(3).
const fn split(device: u64) -> (u64, u64) {
    ((device >> 32 & 0xffff_f000) | (device >> 8 & 0xfff), (device >> 12 & 0xffff_ff00) | (device & 0xff))
}

/// Finds the disk that a policy means by a path on it, by its node, or by its number.
pub(crate) fn disk(named: &str) -> Result<Number, Error> {
    if let Some(number) = parse(named) {
        return Ok(whole(number));
    }
    if !named.starts_with('/') {
        return Err(Error::policy(format!("`{named}` is not a device"))
            .help("write a path on the device such as \"/var\", its node such as \"/dev/vda\", or its number such as \"254:0\""));
    }
    let facts = std::fs::metadata(named).map_err(|e| {
        let errno = e.raw_os_error().unwrap_or_default();
        Error::host(format!("cannot find the device of {named}"))
            .call(format!("stat(\"{named}\") = {e}"), errno)
            .help("name a path that exists on this host, or the number of the device, as lsblk prints it")
    })?;
    let (major, minor) = split(if facts.file_type().is_block_device() { facts.rdev() } else { facts.dev() });
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) if major != 0 => Ok(whole(Number(major, minor))),
        _ => Err(Error::host(format!("{named} is on no block device of its own"))
            .call(format!("stat(\"{named}\"): device {major}:{minor}"), 0)
            .help(
                "tmpfs, overlay, btrfs and network file systems have none; name the disk itself, such as \"/dev/vda\"",
            )),
    }
}

/// Says by what some disk is shared by weights. Where none is, the kernel takes a weight, and it binds nothing.
///
/// Linux: Documentation/admin-guide/cgroup-v2.rst, "IO Interface Files"; Documentation/block/bfq-iosched.rst.
pub(crate) fn shared_by_weight(version: Version, dir: &Path) -> Result<String, Error> {
    let (found, call, help) = match version {
        // Only the root of the hierarchy has the file, with a line for each disk that was ever told.
        Version::V2 => (
            dir.ancestors().find_map(|above| {
                let text = std::fs::read_to_string(above.join("io.cost.qos")).ok()?;
                Some(text.lines().find(|line| line.contains(" enable=1"))?.to_owned())
            }),
            format!("read(io.cost.qos): no disk with enable=1 in {} or above", dir.display()),
            "turn it on for the disk: echo \"254:0 enable=1\" >/sys/fs/cgroup/io.cost.qos, with the number that lsblk \
             prints; or leave `io.weight` out",
        ),
        Version::V1 => (
            std::fs::read_dir("/sys/block").into_iter().flatten().flatten().find_map(|disk| {
                let text = std::fs::read_to_string(disk.path().join("queue/scheduler")).ok()?;
                text.contains("[bfq]").then(|| format!("{} [bfq]", disk.file_name().display()))
            }),
            "read(/sys/block/*/queue/scheduler): no disk with [bfq]".to_owned(),
            "choose the scheduler for the disk: echo bfq >/sys/block/vda/queue/scheduler; or leave `io.weight` out",
        ),
    };
    found.ok_or_else(|| {
        Error::host("no disk of this host is shared by weights, so `io.weight` would bind nothing")
            .call(call, 0)
            .help(help)
    })
}

/// The disk of a partition: the kernel takes limits for whole disks only.
fn whole(number: Number) -> Number {
    let dir = format!("/sys/dev/block/{number}");
    if !Path::new(&dir).join("partition").exists() {
        return number;
    }
    // The directory is a link into the disk's own, which is above it.
    let above = std::fs::canonicalize(&dir).ok().and_then(|dir| Some(dir.parent()?.join("dev")));
    above.and_then(|dev| parse(&std::fs::read_to_string(dev).ok()?)).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_apart_as_the_c_library_makes_them() {
        assert_eq!(split(0xfe00), (254, 0));
        assert_eq!(split(0x0010_0801), (8, 0x101));
        assert_eq!(split(0x0000_1000_0000_0000), (4096, 0));
    }

    #[test]
    fn what_has_no_disk_is_an_error_with_help() {
        for (named, says) in [("vda", "not a device"), ("/proc", "no block device"), ("/nonexistent", "cannot find")] {
            let error = disk(named).unwrap_err();
            assert!(error.message.contains(says) && !error.help.is_empty(), "{named}: {}", error.message);
        }
    }

    /// Any disk of this host will do, by its number and by its node.
    #[test]
    fn a_partition_is_its_disk() {
        let partitions = std::fs::read_to_string("/proc/partitions").unwrap();
        for line in partitions.lines().skip(2) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let number = format!("{}:{}", words[0], words[1]);
            let found = disk(&number).unwrap();
            assert!(!Path::new(&format!("/sys/dev/block/{found}/partition")).exists(), "{number} -> {found}");
        }
    }
}
