//! What this host offers, for `palisade doctor`.

use crate::rights::{self, NEWEST, kernel, names};
use palisade_abi::{Finding, Support};

/// What the kernel said when it was asked for its ABI.
pub(crate) fn probe(abi: palisade_sys::Result<u32>) -> Vec<Finding> {
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
        ("connecting to UNIX sockets by path", rights::CONNECT_UNIX),
    ];
    let parts = parts.into_iter().filter(|(_, needs)| abi < *needs).map(|(what, needs)| Finding {
        feature: format!("Landlock: {what}"),
        support: Support::Missing,
        detail: format!("needs ABI {needs}, this kernel has {abi}"),
        remedy: format!("use Linux {} or later", kernel(needs)),
    });
    std::iter::once(whole).chain(parts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_kernel() {
        let findings = probe(Ok(5));
        let missing: Vec<_> = findings.iter().map(|f| (f.feature.as_str(), f.remedy.as_str())).collect();
        assert_eq!(
            missing,
            [
                ("Landlock", ""),
                ("Landlock: scopes", "use Linux 6.12 or later"),
                ("Landlock: connecting to UNIX sockets by path", "use Linux 7.1 or later"),
            ]
        );
        assert!(probe(Ok(11))[0].detail.contains("newer than 10"));
    }
}
