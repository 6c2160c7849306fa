//! Reaching the host's network.

use super::*;
use palisade_sys::attempt::Arg::{In, Int};
use palisade_sys::channel::Channel;
use palisade_sys::fd;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

table! {
    "nt-loopback-tcp" High ["NET; LL4; SEC"] "reach a service of the host on 127.0.0.1", "", "the service is the canary's"
        => |s| answers(IpAddr::V4(Ipv4Addr::LOCALHOST), s.canary.tcp, s);
    "nt-loopback-tcp6" High ["NET; LL4; SEC"] "reach a service of the host on ::1", "IPv6", "the service is the canary's"
        => |s| answers(IpAddr::V6(Ipv6Addr::LOCALHOST), s.canary.tcp6.ok_or(Errno::EAFNOSUPPORT)?, s);
    "nt-fast-open" High ["NET; SEC; Landlock does not"] "reach a service of the host by sending without connecting", "sysctl net.ipv4.tcp_fastopen & 1", "the service is the canary's"
        => fast_open;
    "nt-mptcp" High ["NET; SEC; Landlock does not"] "reach a service of the host by multipath TCP", "CONFIG_MPTCP", "the service is the canary's"
        => multipath;
    "nt-loopback-udp" High ["NET; SEC; Landlock does not"] "reach a service of the host by UDP", "", "the service is the canary's"
        => loopback_udp;
    "nt-raw-icmp" High ["CAP_NET_RAW; NET and USR; SEC"] "make a raw socket", "CAP_NET_RAW", "nothing is sent"
        => |_| gave(Call::SOCKET, [Int(2), Int(3), Int(1)]);
    "nt-packet" High ["CAP_NET_RAW; SEC"] "make a socket that reads all traffic", "CAP_NET_RAW", "of protocol 0, which receives nothing"
        => |_| gave(Call::SOCKET, [Int(17), Int(3), Int(0)]);
    "nt-af-alg" High ["SEC"] "make a socket of the kernel's cryptography", "CONFIG_CRYPTO_USER_API", "nothing is done with it"
        => |_| gave(Call::SOCKET, [Int(38), Int(5), Int(0)]);
    "nt-vsock" Medium ["SEC"] "make a socket to the hypervisor", "CONFIG_VSOCKETS", "nothing is done with it"
        => |_| gave(Call::SOCKET, [Int(40), Int(1), Int(0)]);
    "nt-xdp" Medium ["CAP_NET_RAW; SEC"] "make a socket past the network stack", "CONFIG_XDP_SOCKETS, CAP_NET_RAW", "nothing is done with it"
        => |_| gave(Call::SOCKET, [Int(44), Int(3), Int(0)]);
    "nt-families" Medium ["SEC"] "make a socket of a family that programs do not need", "one of them in the kernel", "they are only made; the kernel may load a module for one"
        => families;
    "nt-bind-low" Low ["CAP_NET_BIND_SERVICE; NET; LL4"] "bind a port below 1024", "CAP_NET_BIND_SERVICE", "it is closed at once"
        => bind_low;
    "nt-listen-reachable" Medium ["NET; LL4; SEC"] "open a service that the host can reach", "", "it is closed at once"
        => listen_reachable;
    "nt-iface-list" Low ["NET"] "see the host's interfaces", "an interface besides lo", "it only reads"
        => iface_list;
    "nt-netlink-noop" High ["NET and USR; CAP_NET_ADMIN"] "change nothing of an interface", "CAP_NET_ADMIN", "the change is none"
        => netlink_noop;
    "nt-nfnetlink" High ["NET and USR; CAP_NET_ADMIN; SEC"] "ask the packet filter which version of its rules is in force", "nf_tables, CAP_NET_ADMIN", "it only reads"
        => nfnetlink;
    "nt-dns-route" Medium ["NET; MNT"] "see whether there is a way to the resolver", "a resolver by its address", "connecting by UDP sends nothing"
        => dns_route;
    "nt-route-out" Medium ["NET"] "see whether there is a way out", "a route", "connecting by UDP sends nothing"
        => route_out;
    "nt-netns-of-canary" Low ["PID; PROC"] "see which network a process outside is in", "the right to trace it", "it only reads"
        => |s| { std::fs::read_link(format!("/proc/{}/ns/net", s.canary.pid))?; Ok(true) };
}

/// How long an answer on this very host takes at most.
const ANSWER: Duration = Duration::from_secs(1);

fn answers(address: IpAddr, port: u16, scene: &Scene) -> Tried {
    let mut peer = TcpStream::connect_timeout(&SocketAddr::new(address, port), ANSWER)?;
    peer.set_read_timeout(Some(ANSWER))?;
    let mut said = [0; 64];
    let length = peer.read(&mut said)?;
    Ok(holds(&said[..length], &scene.token))
}

/// `sockaddr_in` of a port of 127.0.0.1.
fn loopback(port: u16) -> [u8; 16] {
    const AF_INET: u16 = 2;
    let mut address = [0; 16];
    address[..2].copy_from_slice(&AF_INET.to_ne_bytes());
    address[2..4].copy_from_slice(&port.to_be_bytes());
    address[4..8].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    address
}

/// Whether the canary says the token to who has got as far as it, by a stream of this protocol.
fn stream(protocol: i64, scene: &Scene, reach: impl FnOnce(Arg<'_>, [Arg<'_>; 2]) -> Result<i64, Errno>) -> Tried {
    let socket = number(attempt(Call::SOCKET, [Int(2), Int(1), Int(protocol)])?)?;
    reach(Int(i64::from(socket)), [In(&loopback(scene.canary.tcp)), Int(16)])?;
    // Where nobody answers, the alarm ends this.
    Ok(holds(&fd::read_some(fd::borrow(socket)?, 64)?, &scene.token))
}

fn fast_open(scene: &Scene) -> Tried {
    const MSG_FASTOPEN: i64 = 0x2000_0000;
    stream(0, scene, |socket, [address, length]| {
        attempt(Call::SENDTO, [socket, In(b""), Int(0), Int(MSG_FASTOPEN), address, length])
    })
}

fn multipath(scene: &Scene) -> Tried {
    const IPPROTO_MPTCP: i64 = 262;
    stream(IPPROTO_MPTCP, scene, |socket, [address, length]| attempt(Call::CONNECT, [socket, address, length]))
}

fn loopback_udp(scene: &Scene) -> Tried {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.connect((Ipv4Addr::LOCALHOST, scene.canary.udp))?;
    socket.send(b"?")?;
    let mut said = [0; 64];
    let length = socket.recv(&mut said)?;
    Ok(holds(&said[..length], &scene.token))
}

/// Families of rare protocols, in which holes were found; none is made by a program that just uses the net. Those that
/// most kernels have come first, so that no module need be loaded to find one.
fn families(_: &Scene) -> Tried {
    /// Family and kind: XDP, VSOCK, CAN, TIPC, RDS, KCM.
    const RARE: [(i64, i64); 6] = [(44, 3), (40, 1), (29, 3), (30, 5), (21, 5), (41, 2)];
    let mut why = Errno::EAFNOSUPPORT;
    for (family, kind) in RARE {
        match attempt(Call::SOCKET, [Int(family), Int(kind), Int(0)]) {
            Ok(_) => return Ok(true),
            Err(errno @ (Errno::EPERM | Errno::EACCES)) => why = errno,
            Err(_) => {}
        }
    }
    Err(why.into())
}

fn bind_low(_: &Scene) -> Tried {
    // Some may be in use: any will do.
    let mut why = None;
    for port in (900..1000).rev() {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(true),
            Err(error) if error.raw_os_error() == Some(Errno::EADDRINUSE as i32) => {}
            Err(error) => why = why.or(Some(error)),
        }
    }
    Err(why.map_or_else(|| Stop::unclear("all ports are in use"), Into::into))
}

/// The harness connects and says the token: who says it came from outside.
fn listen_reachable(scene: &Scene) -> Tried {
    let service = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    service.set_nonblocking(true)?;
    let channel = Channel::from(fd::borrow(scene.channel).and_then(fd::dup_cloexec)?);
    let listening = crate::inside::Listening { listening: service.local_addr()?.port() };
    crate::inside::tell(&channel, &listening).map_err(|()| Stop::unclear("the harness is gone"))?;
    let begun = Instant::now();
    while begun.elapsed() < ANSWER {
        if let Ok((mut peer, _)) = service.accept() {
            peer.set_nonblocking(false)?;
            peer.set_read_timeout(Some(ANSWER))?;
            let mut said = [0; 64];
            let length = peer.read(&mut said)?;
            return Ok(holds(&said[..length], &scene.token));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(Stop::hidden("nobody came"))
}

/// The names of interfaces, from /proc/net/dev.
pub(crate) fn interfaces() -> std::io::Result<Vec<String>> {
    let table = std::fs::read_to_string("/proc/net/dev")?;
    Ok(table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect())
}

fn iface_list(scene: &Scene) -> Tried {
    let mine = interfaces()?;
    seen(mine.iter().any(|name| name != "lo" && scene.host.interfaces.contains(name)), "none of the host's")
}

/// The answer to one message of netlink: its kind and what follows the header.
fn netlink(protocol: i64, kind: u16, flags: u16, body: &[u32]) -> Result<(u16, Vec<u8>), Stop> {
    const HEADER: usize = 16;
    let socket = fd::borrow(number(attempt(Call::SOCKET, [Int(16), Int(3), Int(protocol)])?)?)?;
    let length = u32::try_from(HEADER + body.len() * 4).unwrap_or(0);
    let words = [length, u32::from(kind) | u32::from(flags) << 16, 1, 0];
    let message: Vec<u8> = words.iter().chain(body).flat_map(|word| word.to_ne_bytes()).collect();
    fd::write(socket, &message)?;
    let answer = fd::read_some(socket, 4096)?;
    match answer.get(4..6) {
        Some(&[low, high]) if answer.len() >= HEADER => {
            Ok((u16::from_ne_bytes([low, high]), answer[HEADER..].to_vec()))
        }
        _ => Err(Stop::unclear("the answer is too short")),
    }
}

/// An answer that is an errno; 0 is that all is well.
fn acknowledged(kind: u16, body: &[u8]) -> Tried {
    const ERROR: u16 = 2;
    match body.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(errno) if kind == ERROR && errno != 0 => Err(Errno::from_raw(-errno).into()),
        _ => Ok(true),
    }
}

fn netlink_noop(_: &Scene) -> Tried {
    const SETLINK: u16 = 19;
    const REQUEST_ACK: u16 = 5;
    // Of interface 1, which is lo everywhere, no flag is changed.
    let (kind, body) = netlink(0, SETLINK, REQUEST_ACK, &[0, 1, 0, 0])?;
    acknowledged(kind, &body)
}

fn nfnetlink(_: &Scene) -> Tried {
    const NETFILTER: i64 = 12;
    /// `NFNL_SUBSYS_NFTABLES`, `NFT_MSG_GETGEN`.
    const GETGEN: u16 = 10 << 8 | 16;
    const REQUEST: u16 = 1;
    let (kind, body) = netlink(NETFILTER, GETGEN, REQUEST, &[0])?;
    acknowledged(kind, &body)
}

fn dns_route(scene: &Scene) -> Tried {
    let resolver: IpAddr = scene.host.resolver.parse().map_err(|_e| Stop::hidden("no resolver is configured"))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((resolver, 53))?;
    Ok(true)
}

fn route_out(_: &Scene) -> Tried {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // An address for documentation, which nobody has.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
    Ok(true)
}
