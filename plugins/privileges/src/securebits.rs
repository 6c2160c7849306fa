//! The securebits, by name. capabilities(7), linux/securebits.h.

use palisade_abi::At;

/// One bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, palisade_abi::serde::Deserialize)]
#[serde(crate = "palisade_abi::serde")]
pub(crate) enum SecureBit {
    /// Uid 0 gets no capabilities at execve.
    NoRoot,
    /// `NoRoot` stays as it is.
    NoRootLocked,
    /// A change between uid 0 and others leaves the sets alone.
    NoSetuidFixup,
    /// `NoSetuidFixup` stays as it is.
    NoSetuidFixupLocked,
    /// A change away from uid 0 keeps the permitted set; cleared by execve.
    KeepCaps,
    /// `KeepCaps` stays as it is.
    KeepCapsLocked,
    /// Nothing can be added to the ambient set.
    NoCapAmbientRaise,
    /// `NoCapAmbientRaise` stays as it is.
    NoCapAmbientRaiseLocked,
    /// Interpreters that look execute only what `execveat(AT_EXECVE_CHECK)` allows. Since: 6.14.
    ExecRestrictFile,
    /// `ExecRestrictFile` stays as it is. Since: 6.14.
    ExecRestrictFileLocked,
    /// Interpreters that look take no commands from a terminal or a pipe. Since: 6.14.
    ExecDenyInteractive,
    /// `ExecDenyInteractive` stays as it is. Since: 6.14.
    ExecDenyInteractiveLocked,
}

/// `SECBIT_KEEP_CAPS`, which the switch of ids may have set for its own use.
pub(crate) const KEEP_CAPS: u32 = 1 << 4;
/// `SECBIT_KEEP_CAPS_LOCKED`.
pub(crate) const KEEP_CAPS_LOCKED: u32 = 1 << 5;
/// The bits that need no CAP_SETPCAP and Linux 6.14.
const EXEC_BITS: u32 = 0xf00;

impl SecureBit {
    pub(crate) fn mask(self) -> u32 {
        1 << (self as u32)
    }

    /// The first kernel that has the bit, if that is younger than palisade's floor.
    pub(crate) fn since(self) -> Option<(u32, u32)> {
        (self.mask() & EXEC_BITS != 0).then_some((6, 14))
    }
}

/// The bits together.
pub(crate) fn mask(bits: &[At<SecureBit>]) -> u32 {
    bits.iter().fold(0, |mask, bit| mask | bit.mask())
}

/// Whether setting them needs CAP_SETPCAP.
pub(crate) fn privileged(mask: u32) -> bool {
    mask & !EXEC_BITS != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_kernel_header() {
        assert_eq!(SecureBit::NoRoot.mask(), 1);
        assert_eq!(SecureBit::NoSetuidFixup.mask(), 4);
        assert_eq!((SecureBit::KeepCaps.mask(), SecureBit::KeepCapsLocked.mask()), (KEEP_CAPS, KEEP_CAPS_LOCKED));
        assert_eq!(SecureBit::NoCapAmbientRaise.mask(), 0x40);
        assert_eq!(SecureBit::ExecRestrictFile.mask(), 0x100);
        assert_eq!(SecureBit::ExecDenyInteractiveLocked.mask(), 0x800);
        assert_eq!(SecureBit::ExecRestrictFile.since(), Some((6, 14)));
        assert!(privileged(1) && !privileged(0xf00));
    }
}
