//! The canary: a process outside that must not be reached. It answers the token to whoever does, counts signals, and
//! takes all canaries away when the harness is gone, however that ended.

use crate::canaries;
use crate::scene::Canary;
use palisade_sys::event::{PollItem, poll};
use palisade_sys::signal::{self, SignalFd};
use std::fs::File;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// The variable that holds the token in its environment.
pub(crate) const TOKEN: &str = "PALISADE_TOKEN";
/// Where it counts signals.
pub(crate) const HITS: &str = "hits";

/// What its command line is known by.
pub(crate) fn mark(token: &str) -> String {
    format!("canary-{token}")
}

/// Is the canary until the harness is gone; gives the exit code.
pub(crate) fn canary(place: &str) -> u8 {
    let Ok(token) = std::env::var(TOKEN) else { return 1 };
    let served = serve(place, &token);
    // Whatever happened: what was laid out goes.
    canaries::remove(&token);
    u8::from(served.is_err())
}

/// What answers the token.
struct Services {
    tcp: TcpListener,
    tcp6: Option<TcpListener>,
    udp: UdpSocket,
    path: UnixListener,
    named: UnixListener,
}

impl Services {
    fn open(token: &str) -> io::Result<Self> {
        let name = SocketAddr::from_abstract_name(format!("palisade-{token}"))?;
        let path = UnixListener::bind("sock")?;
        std::fs::set_permissions("sock", PermissionsExt::from_mode(0o777))?;
        Ok(Self {
            tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            // A host without IPv6 has none.
            tcp6: TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok(),
            udp: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
            path,
            named: UnixListener::bind_addr(&name)?,
        })
    }

    fn answer(&self, ready: &[bool; 5], token: &str) {
        // Whoever goes away in between is told nothing.
        let say = |peer: &mut dyn io::Write| peer.write_all(token.as_bytes()).ok();
        let [tcp, tcp6, udp, path, named] = *ready;
        let inet = [(tcp, Some(&self.tcp)), (tcp6, self.tcp6.as_ref())];
        for listener in inet.into_iter().filter_map(|(ready, listener)| listener.filter(|_| ready)) {
            listener.accept().ok().and_then(|(mut peer, _)| say(&mut peer));
        }
        for listener in [(path, &self.path), (named, &self.named)].into_iter().filter(|(ready, _)| *ready) {
            listener.1.accept().ok().and_then(|(mut peer, _)| say(&mut peer));
        }
        if udp && let Ok((_, peer)) = self.udp.recv_from(&mut [0; 64]) {
            self.udp.send_to(token.as_bytes(), peer).ok();
        }
    }
}

fn serve(place: &str, token: &str) -> io::Result<()> {
    let other = |error: palisade_sys::Error| io::Error::from_raw_os_error(error.errno());
    std::env::set_current_dir(place)?;
    // It is blocked with that, so that it does not end the canary.
    let signals = SignalFd::new(&[signal::SIGUSR1]).map_err(other)?;
    let memory: &'static [u8] = format!("{token} in memory").into_bytes().leak();
    let secret = File::open("secret")?;
    let services = Services::open(token)?;
    let mut hits = File::create(HITS)?;
    let facts = Canary {
        pid: palisade_sys::process::getpid(),
        address: memory.as_ptr().addr(),
        fd: secret.as_raw_fd(),
        tcp: services.tcp.local_addr()?.port(),
        tcp6: services.tcp6.as_ref().and_then(|listener| listener.local_addr().ok()).map(|address| address.port()),
        udp: services.udp.local_addr()?.port(),
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(&serde_json::to_vec(&facts)?)?;
    stdout.write_all(b"\n")?;
    stdout.flush()?;
    let stdin = io::stdin();
    loop {
        let tcp6 = services.tcp6.as_ref().unwrap_or(&services.tcp);
        let watched: [BorrowedFd<'_>; 7] = [
            stdin.as_fd(),
            signals.as_fd(),
            services.tcp.as_fd(),
            tcp6.as_fd(),
            services.udp.as_fd(),
            services.path.as_fd(),
            services.named.as_fd(),
        ];
        let mut items = watched.map(PollItem::read);
        poll(&mut items, None).map_err(other)?;
        let [gone, signalled, ready @ ..] = items.map(|item| item.readable || item.hup);
        if gone {
            return Ok(());
        }
        if signalled && signals.read().map_err(other)?.is_some() {
            hits.write_all(b"x")?;
        }
        services.answer(&ready, token);
    }
}
