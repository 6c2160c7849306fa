//! What this host offers, for `palisade doctor`.

use crate::rights::{self, NEWEST, kernel, names};
use landlock::{ABI, BitFlags, Erratum};
use palisade_abi::{Finding, Support};

/// What the kernel said when it was asked for its ABI.
/// `fixed`: which errata it says are fixed, if it says.
pub(crate) fn probe(abi: palisade_sys::Result<u32>, fixed: Option<u32>) -> Vec<Finding> {
    let abi = match abi {
        Ok(abi) => abi,
        Err(error) => {
            return vec![Finding {
                feature: "Landlock".to_owned(),
                support: Support::Missing,
                detail: error.to_string(),
                remedy: error.hint().unwrap_or_default().to_owned(),
            }];
        }
    };
    let newer = if abi > NEWEST { format!(", newer than {NEWEST}, the newest known here") } else { String::new() };
    let whole = Finding {
        feature: "Landlock".to_owned(),
        support: Support::Full,
        detail: format!("ABI {abi}{newer}: {}", names(rights::all(abi))),
        remedy: String::new(),
    };
    let parts = [
        ("truncation", rights::TRUNCATE),
        ("TCP ports", rights::TCP),
        ("commands to devices", rights::IOCTL_DEV),
        ("scopes", rights::SCOPES),
        ("denials in the audit log", rights::LOG),
        ("connecting to UNIX sockets by path", rights::CONNECT_UNIX),
    ];
    let parts = parts.into_iter().filter(|(_, needs)| abi < *needs).map(|(what, needs)| Finding {
        feature: format!("Landlock: {what}"),
        support: Support::Missing,
        detail: format!("needs ABI {needs}, this kernel has {abi}"),
        remedy: format!("use Linux {} or later", kernel(needs)),
    });
    std::iter::once(whole).chain(errata(abi, fixed)).chain(parts).collect()
}

/// The errata that the kernel has not fixed, by their numbers in its documentation.
fn errata(abi: u32, fixed: Option<u32>) -> Option<Finding> {
    // Before 6.15 it cannot tell.
    let fixed = fixed?;
    let of_this = BitFlags::<Erratum>::from(ABI::from(i32::try_from(abi).unwrap_or(i32::MAX))).bits();
    let open: Vec<String> =
        (0..32).filter(|bit| (of_this & !fixed) >> bit & 1 == 1).map(|bit| (bit + 1).to_string()).collect();
    (!open.is_empty()).then(|| Finding {
        feature: "Landlock: errata".to_owned(),
        support: Support::Partial,
        detail: format!("not fixed in this kernel: {}", open.join(", ")),
        remedy: "use a later release of this kernel; what they are: docs.kernel.org/userspace-api/landlock.html"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_kernel() {
        let findings = probe(Ok(5), None);
        let missing: Vec<_> = findings.iter().map(|f| (f.feature.as_str(), f.remedy.as_str())).collect();
        assert_eq!(
            missing,
            [
                ("Landlock", ""),
                ("Landlock: scopes", "use Linux 6.12 or later"),
                ("Landlock: denials in the audit log", "use Linux 6.15 or later"),
                ("Landlock: connecting to UNIX sockets by path", "use Linux 7.1 or later"),
            ]
        );
        let errata = |fixed| probe(Ok(7), fixed).into_iter().find(|f| f.feature.ends_with("errata")).map(|f| f.detail);
        assert_eq!(errata(Some(0b101)).unwrap(), "not fixed in this kernel: 2");
        assert_eq!((errata(Some(0b111)), errata(None)), (None, None));
        assert!(probe(Ok(11), Some(0b111))[0].detail.contains("newer than 10"));
    }
}
