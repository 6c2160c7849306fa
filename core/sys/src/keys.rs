//! The session keyring of this process: what keyctl calls on behalf of a login, and what a child inherits.

use crate::error::{OrCall, Result};
use crate::raw;

/// `KEYCTL_GET_KEYRING_ID` and `KEYCTL_JOIN_SESSION_KEYRING` of linux/keyctl.h.
const GET_KEYRING_ID: i32 = 0;
const JOIN_SESSION_KEYRING: i32 = 1;
/// `KEY_SPEC_SESSION_KEYRING`.
const SESSION: i32 = -3;

/// Gives this process a new session keyring that is empty and nobody else's; gives its serial number.
///
/// It is counted against the user's quota until the last process with it has ended. Fails: ENOSYS without
/// CONFIG_KEYS, EDQUOT. KEYCTL_JOIN_SESSION_KEYRING(2const).
pub fn join_session_keyring() -> Result<i32> {
    let args = [raw::int(JOIN_SESSION_KEYRING), 0, 0, 0, 0];
    // SAFETY: the name is NULL, which asks for one without a name; upheld by the literal 0; else the kernel reads a string there.
    let serial = unsafe { raw::syscall(libc::SYS_keyctl, args) }.and_then(raw::small);
    serial.or_call(|| "keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)".to_owned())
}

/// Reads the serial number of the session keyring; a process without one has that of its user.
///
/// Fails: ENOSYS without CONFIG_KEYS, EKEYREVOKED after a log-out. KEYCTL_GET_KEYRING_ID(2const).
pub fn session_keyring() -> Result<i32> {
    let args = [raw::int(GET_KEYRING_ID), raw::int(SESSION), 0, 0, 0];
    // SAFETY: this request takes no pointer; upheld by KEYCTL_GET_KEYRING_ID(2const); else nothing is touched.
    let serial = unsafe { raw::syscall(libc::SYS_keyctl, args) }.and_then(raw::small);
    serial.or_call(|| "keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)".to_owned())
}
