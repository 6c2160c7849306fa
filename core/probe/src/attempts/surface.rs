//! Ways round a filter, and the terminal.

use super::*;
use palisade_sys::attempt as sys;

table! {
    "ks-modify-ldt" Medium ["SEC; CONFIG_MODIFY_LDT_SYSCALL"] "read the local descriptor table", "x86, CONFIG_MODIFY_LDT_SYSCALL", "it only reads"
        => |_| modify_ldt();
    "ks-int80" High ["SEC, by the architecture"] "call the kernel by the numbers of 32-bit programs", "x86-64, CONFIG_IA32_EMULATION", "it asks for its parent's id"
        => |_| int80();
    "ks-x32" High ["SEC, by the architecture and the range of numbers"] "call the kernel by the numbers of x32 programs", "x86-64, CONFIG_X86_X32", "it asks for its own id"
        => |_| x32();
    "ks-tiocsti" Critical ["TTY; SEC; sysctl dev.tty.legacy_tiocsti"] "type into the caller's terminal", "sysctl dev.tty.legacy_tiocsti = 1, or CAP_SYS_ADMIN", "the terminal is the harness's own"
        => |_| { sys::push_input(0, crate::arm::TYPED)?; Ok(true) };
    "ks-tioclinux" Medium ["TTY; SEC"] "ask the console which keys are held", "a virtual console", "it only asks"
        => |_| { sys::shift_state(0)?; Ok(true) };
}

#[cfg(target_arch = "x86_64")]
fn modify_ldt() -> Tried {
    use palisade_sys::attempt::Arg::{Int, Out};
    gave(Call::MODIFY_LDT, [Int(0), Out(&mut [0; 16]), Int(16)])
}

#[cfg(target_arch = "x86_64")]
fn int80() -> Tried {
    let answer = sys::parent_by_int80();
    match i32::try_from(answer).ok().filter(|answer| (-4095..0).contains(answer)) {
        Some(errno) => Err(Errno::from_raw(-errno).into()),
        None => Ok(true),
    }
}

#[cfg(target_arch = "x86_64")]
fn x32() -> Tried {
    sys::id_by_x32()?;
    Ok(true)
}

#[cfg(not(target_arch = "x86_64"))]
fn modify_ldt() -> Tried {
    Err(Errno::ENOSYS.into())
}

#[cfg(not(target_arch = "x86_64"))]
fn int80() -> Tried {
    Err(Errno::ENOSYS.into())
}

#[cfg(not(target_arch = "x86_64"))]
fn x32() -> Tried {
    Err(Errno::ENOSYS.into())
}
