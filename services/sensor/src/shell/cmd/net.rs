//! Commands on the network. None of them reaches any.

use std::{net::IpAddr, time::Duration};

use super::{
    super::{
        Family, Machine, daemons,
        expand::told,
        processes,
        run::{Io, Shell},
        vfs::name,
    },
    Args,
};
use crate::session::EventType;

fn broadcast(machine: &Machine) -> String {
    match machine.persona().ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}.255")
        }
        IpAddr::V6(_) => String::new(),
    }
}

fn network(machine: &Machine) -> String {
    match machine.persona().ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}.0")
        }
        IpAddr::V6(_) => String::new(),
    }
}

/// The link-local address that the card has.
fn link_local(machine: &Machine) -> String {
    let bytes: Vec<u8> =
        machine.persona().mac.split(':').filter_map(|part| u8::from_str_radix(part, 16).ok()).collect();
    match bytes.as_slice() {
        [a, b, c, d, e, f] => format!("fe80::{:x}{b:02x}:{c:x}ff:fe{d:02x}:{e:x}{f:02x}", a ^ 2),
        _ => "fe80::1".to_owned(),
    }
}

/// Received and sent: packets and bytes. They grow with the time.
fn traffic(machine: &Machine) -> (u64, u64, u64, u64) {
    let up = u64::try_from(machine.uptime()).unwrap_or(0);
    let rate = 3 + machine.persona().number("packets a second", 12);
    let (received, sent) = (up * rate, up * rate * 7 / 10);
    (received, received * (180 + machine.persona().number("packet size", 300)), sent, sent * 240)
}

pub(super) fn ifconfig(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let machine = shell.machine().clone();
    let (persona, facts) = (machine.persona(), machine.facts());
    let (packets, bytes, sent, sent_bytes) = traffic(&machine);
    let interface = facts.interface;
    if let Some(wanted) = argv.get(1).filter(|word| !word.starts_with('-') && *word != interface && *word != "lo") {
        shell.complain(io, &format!("{wanted}: error fetching interface information: Device not found\n"));
        return 1;
    }
    let human = |bytes: u64| {
        if bytes > 1_000_000_000 {
            format!("{:.1} GB", bytes as f64 / 1e9)
        } else {
            format!("{:.1} MB", bytes as f64 / 1e6)
        }
    };
    let text = match facts.family {
        Family::BusyBox => format!(
            "{interface:<10}Link encap:Ethernet  HWaddr {}  \n          inet addr:{}  Bcast:{}  Mask:255.255.255.0\n          inet6 addr: {}/64 Scope:Link\n          UP BROADCAST RUNNING MULTICAST  MTU:1500  Metric:1\n          RX packets:{packets} errors:0 dropped:0 overruns:0 frame:0\n          TX packets:{sent} errors:0 dropped:0 overruns:0 carrier:0\n          collisions:0 txqueuelen:1000 \n          RX bytes:{bytes} ({:.1} MiB)  TX bytes:{sent_bytes} ({:.1} MiB)\n\nlo        Link encap:Local Loopback  \n          inet addr:127.0.0.1  Mask:255.0.0.0\n          UP LOOPBACK RUNNING  MTU:65536  Metric:1\n          RX packets:64 errors:0 dropped:0 overruns:0 frame:0\n          TX packets:64 errors:0 dropped:0 overruns:0 carrier:0\n          collisions:0 txqueuelen:1000 \n          RX bytes:5376 (5.2 KiB)  TX bytes:5376 (5.2 KiB)\n\n",
            persona.mac.to_uppercase(),
            persona.ip,
            broadcast(&machine),
            link_local(&machine),
            bytes as f64 / 1_048_576.0,
            sent_bytes as f64 / 1_048_576.0
        ),
        Family::Bsd => format!(
            "{interface}: flags=8863<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> metric 0 mtu 1500\n\toptions=4c07bb<RXCSUM,TXCSUM,VLAN_MTU,VLAN_HWTAGGING,JUMBO_MTU,VLAN_HWCSUM,TSO4,TSO6,LRO,VLAN_HWTSO,LINKSTATE,TXCSUM_IPV6>\n\tether {}\n\tinet {} netmask 0xffffff00 broadcast {}\n\tmedia: Ethernet autoselect (10Gbase-T <full-duplex>)\n\tstatus: active\n\tnd6 options=29<PERFORMNUD,IFDISABLED,AUTO_LINKLOCAL>\nlo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> metric 0 mtu 16384\n\tinet6 ::1 prefixlen 128\n\tinet6 fe80::1%lo0 prefixlen 64 scopeid 0x2\n\tinet 127.0.0.1 netmask 0xff000000\n\tgroups: lo\n",
            persona.mac,
            persona.ip,
            broadcast(&machine)
        ),
        _ => format!(
            "{interface}: flags=4163<UP,BROADCAST,RUNNING,MULTICAST>  mtu 1500\n        inet {}  netmask 255.255.255.0  broadcast {}\n        inet6 {}  prefixlen 64  scopeid 0x20<link>\n        ether {}  txqueuelen 1000  (Ethernet)\n        RX packets {packets}  bytes {bytes} ({})\n        RX errors 0  dropped 0  overruns 0  frame 0\n        TX packets {sent}  bytes {sent_bytes} ({})\n        TX errors 0  dropped 0 overruns 0  carrier 0  collisions 0\n\nlo: flags=73<UP,LOOPBACK,RUNNING>  mtu 65536\n        inet 127.0.0.1  netmask 255.0.0.0\n        inet6 ::1  prefixlen 128  scopeid 0x10<host>\n        loop  txqueuelen 1000  (Local Loopback)\n        RX packets 2  bytes 140 (140.0 B)\n        RX errors 0  dropped 0  overruns 0  frame 0\n        TX packets 2  bytes 140 (140.0 B)\n        TX errors 0  dropped 0 overruns 0  carrier 0  collisions 0\n\n",
            persona.ip,
            broadcast(&machine),
            link_local(&machine),
            persona.mac,
            human(bytes),
            human(sent_bytes)
        ),
    };
    shell.say(io, &text);
    0
}

pub(super) fn ip(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let machine = shell.machine().clone();
    let (persona, interface) = (machine.persona(), machine.facts().interface);
    let words: Vec<&str> = argv.iter().skip(1).map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let brief = argv.iter().any(|word| word.starts_with("-br"));
    let text = match words.first().copied() {
        Some(word) if "address".starts_with(word) && brief => format!(
            "lo               UNKNOWN        127.0.0.1/8 ::1/128 \n{interface:<16} UP             {}/24 {}/64 \n",
            persona.ip,
            link_local(&machine)
        ),
        Some(word) if "address".starts_with(word) => format!(
            "1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000\n    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00\n    inet 127.0.0.1/8 scope host lo\n       valid_lft forever preferred_lft forever\n    inet6 ::1/128 scope host noprefixroute \n       valid_lft forever preferred_lft forever\n2: {interface}: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc fq_codel state UP group default qlen 1000\n    link/ether {} brd ff:ff:ff:ff:ff:ff\n    inet {}/24 brd {} scope global {interface}\n       valid_lft forever preferred_lft forever\n    inet6 {}/64 scope link \n       valid_lft forever preferred_lft forever\n",
            persona.mac,
            persona.ip,
            broadcast(&machine),
            link_local(&machine)
        ),
        Some(word) if "link".starts_with(word) => format!(
            "1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000\n    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00\n2: {interface}: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc fq_codel state UP mode DEFAULT group default qlen 1000\n    link/ether {} brd ff:ff:ff:ff:ff:ff\n",
            persona.mac
        ),
        Some(word) if "route".starts_with(word) => format!(
            "default via {} dev {interface} onlink \n{}/24 dev {interface} proto kernel scope link src {} \n",
            machine.gateway(),
            network(&machine),
            persona.ip
        ),
        Some(word) if "neighbour".starts_with(word) => {
            format!("{} dev {interface} lladdr {} REACHABLE\n", machine.gateway(), gateway_mac(&machine))
        }
        Some("rule") => {
            "0:\tfrom all lookup local\n32766:\tfrom all lookup main\n32767:\tfrom all lookup default\n".to_owned()
        }
        Some(word) => {
            shell.complain(io, &format!("Object \"{word}\" is unknown, try \"ip help\".\n"));
            return 1;
        }
        None => {
            shell.complain(
                io,
                "Usage: ip [ OPTIONS ] OBJECT { COMMAND | help }\n       ip [ -force ] -batch filename\n",
            );
            return 255;
        }
    };
    shell.say(io, &text);
    0
}

/// The card of the gateway.
fn gateway_mac(machine: &Machine) -> String {
    let secret = machine.persona().secret(&format!("gateway {}", network(machine)));
    let [a, b, c, ..] = secret;
    format!("00:1b:21:{a:02x}:{b:02x}:{c:02x}")
}

/// A socket that is listened on: over UDP, its port, the program and its process.
fn listeners(machine: &Machine) -> Vec<(bool, u16, &'static str, u64)> {
    let all = processes::all(machine);
    let mut listeners = Vec::new();
    for daemon in daemons::of(machine) {
        let command = daemon.processes.first().map_or(daemon.program, |(_, command)| command.as_str());
        let pid = all.iter().find(|process| process.command.contains(command)).map_or(1, |process| process.pid);
        listeners.extend(daemon.ports.iter().map(|port| (daemon.udp, *port, daemon.program, pid)));
    }
    listeners
}

pub(super) fn sockets(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let machine = shell.machine().clone();
    let (args, _) = Args::new(argv, "f");
    let (peer, port) = (shell.session.peer(), shell.session.local().port());
    // The port that the attacker knows may be shifted in front of the decoy; the machine shows the usual one.
    let shown = if port == 23 || port % 1000 == 23 { 23 } else { 22 };
    let state = |udp: bool| if udp { ("udp", "UNCONN", "      ") } else { ("tcp", "LISTEN", "LISTEN") };
    let local = machine.persona().ip;
    let programs = args.has('p') && shell.user.uid == 0;
    let mut text = String::new();
    if argv.first().is_some_and(|word| word.ends_with("ss")) {
        text.push_str("Netid State  Recv-Q Send-Q Local Address:Port  Peer Address:Port Process\n");
        if args.has('l') || args.has('a') {
            for (udp, port, program, pid) in listeners(&machine) {
                let process = if programs { format!("users:((\"{program}\",pid={pid},fd=3))") } else { String::new() };
                let (net, state, _) = state(udp);
                let queue = if udp { 0 } else { 128 };
                text.push_str(&format!(
                    "{net}   {state} 0      {queue:<3}          0.0.0.0:{port:<5}      0.0.0.0:*    {process}\n"
                ));
            }
        }
        if !args.has('l') {
            text.push_str(&format!("tcp   ESTAB  0      0      {local}:{shown}  {}:{}\n", peer.ip(), peer.port()));
        }
    } else if argv.iter().any(|word| word.starts_with('-') && word.contains('r')) {
        return routes(shell, &["route".to_owned(), "-n".to_owned()], io);
    } else {
        let title = if args.has('l') {
            "(only servers)"
        } else if args.has('a') {
            "(servers and established)"
        } else {
            "(w/o servers)"
        };
        text.push_str(&format!("Active Internet connections {title}\nProto Recv-Q Send-Q Local Address           Foreign Address         State      {}\n", if args.has('p') { " PID/Program name" } else { "" }));
        if args.has('l') || args.has('a') {
            for (udp, port, program, pid) in listeners(&machine) {
                let process = if programs { format!(" {pid}/{program}") } else { String::new() };
                let (net, _, state) = state(udp);
                text.push_str(&format!(
                    "{net}        0      0 {:<23} 0.0.0.0:*               {state}     {process}\n",
                    format!("0.0.0.0:{port}")
                ));
            }
        }
        if !args.has('l') {
            text.push_str(&format!(
                "tcp        0     36 {:<23} {:<23} ESTABLISHED\n",
                format!("{local}:{shown}"),
                format!("{}:{}", peer.ip(), peer.port())
            ));
        }
    }
    shell.say(io, &text);
    0
}

pub(super) fn routes(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let machine = shell.machine().clone();
    let interface = machine.facts().interface;
    let text = if argv.first().is_some_and(|word| word.ends_with("arp")) {
        format!("? ({}) at {} [ether] on {interface}\n", machine.gateway(), gateway_mac(&machine))
    } else {
        format!(
            "Kernel IP routing table\nDestination     Gateway         Genmask         Flags Metric Ref    Use Iface\n0.0.0.0         {:<15} 0.0.0.0         UG    0      0        0 {interface}\n{:<15} 0.0.0.0         255.255.255.0   U     0      0        0 {interface}\n",
            machine.gateway(),
            network(&machine)
        )
    };
    shell.say(io, &text);
    0
}

pub(super) fn tables(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    if program == "lsof" {
        return 1;
    }
    if shell.user.uid != 0 {
        shell.complain(io, "iptables v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n");
        return 4;
    }
    if argv
        .iter()
        .any(|word| word.starts_with("-L") || word == "--list" || (word.starts_with('-') && word.contains('L')))
    {
        shell.say(io, "Chain INPUT (policy ACCEPT)\ntarget     prot opt source               destination         \n\nChain FORWARD (policy ACCEPT)\ntarget     prot opt source               destination         \n\nChain OUTPUT (policy ACCEPT)\ntarget     prot opt source               destination         \n");
    }
    0
}

/// Waits as a resolver that reaches nobody does, and says whether this is a name.
pub(super) async fn unreachable(shell: &mut Shell, host: &str) -> bool {
    let is_name = host.parse::<IpAddr>().is_err();
    shell.wait(Duration::from_millis(if is_name { 2500 } else { 3050 })).await;
    is_name
}

pub(super) async fn ping(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, values) = Args::new(argv, "ciwWsI");
    let Some(host) = args.rest.last().map(|host| (*host).to_owned()) else {
        shell.complain(io, "ping: usage error: Destination address required\n");
        return 1;
    };
    let machine = shell.machine().clone();
    let address = match host.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) if host == "localhost" || host == machine.persona().hostname => "127.0.0.1".to_owned(),
        Err(_) => {
            unreachable(shell, &host).await;
            shell.complain(io, &format!("ping: {host}: Temporary failure in name resolution\n"));
            return 2;
        }
    };
    let near =
        address.starts_with("127.") || address == machine.persona().ip.to_string() || address == machine.gateway();
    let count = values
        .iter()
        .find(|(letter, _)| *letter == 'c')
        .and_then(|(_, n)| n.parse::<u32>().ok())
        .unwrap_or(1000)
        .min(1000);
    shell.say(io, &format!("PING {host} ({address}) 56(84) bytes of data.\n"));
    let (mut sent, mut back) = (0, 0);
    while sent < count {
        sent += 1;
        if near {
            back += 1;
            let time = 0.02
                + f64::from(rand::random_range(0..60_u32)) / 1000.0
                + if address == machine.gateway() { 0.3 } else { 0.0 };
            shell.say(io, &format!("64 bytes from {address}: icmp_seq={sent} ttl=64 time={time:.3} ms\n"));
        }
        if sent < count && shell.wait(Duration::from_secs(1)).await {
            break;
        }
    }
    if back == 0 && shell.flow.is_none() {
        shell.wait(Duration::from_secs(3)).await;
    }
    let loss = 100 - back * 100 / sent.max(1);
    shell.say(io, &format!("\n--- {host} ping statistics ---\n{sent} packets transmitted, {back} received, {loss}% packet loss, time {}ms\n", sent * 1003));
    i32::from(back == 0)
}

/// Clients of other machines: where they want to go is told of, and they get nowhere.
pub(super) async fn client(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    let (args, values) = Args::new(argv, "pliocFLRDbeEmSW");
    // The far side of a scp that a client of ours speaks to is not a command of the shell.
    let Some(target) = args.rest.iter().find(|word| program != "scp" || word.contains(':')).or(args.rest.first())
    else {
        let text = match program.as_str() {
            "ssh" => {
                "usage: ssh [-46AaCfGgKkMNnqsTtVvXxYy] [-B bind_interface]\n           [-b bind_address] [-c cipher_spec] [-D [bind_address:]port]\n           [-i identity_file] [-J [user@]host[:port]] [-l login_name] destination [command]\n"
            }
            "nc" if args.has('l') => "",
            "nc" => "usage: nc [-46CDdFhklNnrStUuvZz] [-p source_port] [-w timeout] [destination] [port]\n",
            _ => "",
        };
        shell.complain(io, text);
        return 255;
    };
    let host = target.rsplit('@').next().unwrap_or(target).split(':').next().unwrap_or(target).to_owned();
    let port = values
        .iter()
        .find(|(letter, _)| *letter == 'p')
        .map(|(_, value)| (*value).to_owned())
        .or_else(|| args.rest.get(1).filter(|_| program == "nc" || program == "telnet").map(|port| (*port).to_owned()))
        .unwrap_or_else(|| match program.as_str() {
            "telnet" => "23".to_owned(),
            "ftp" => "21".to_owned(),
            _ => "22".to_owned(),
        });
    let command = told(&argv.join(" "));
    let scheme = if program == "nc" { "tcp" } else { program.as_str() };
    shell.session.emit(
        EventType::DownloadAttempt,
        format!("connection out by {program}: {}", told(&host)),
        &[("url", &told(&format!("{scheme}://{host}:{port}"))), ("tool", &program), ("command", &command)],
    );
    let is_name = unreachable(shell, &host).await;
    if shell.flow.is_some() {
        return 130;
    }
    let text = match (program.as_str(), is_name) {
        ("nc", true) => {
            format!("nc: getaddrinfo for host \"{host}\" port {port}: Temporary failure in name resolution\n")
        }
        ("nc", false) => format!("nc: connect to {host} port {port} (tcp) failed: No route to host\n"),
        ("telnet", true) => format!("telnet: could not resolve {host}/{port}: Temporary failure in name resolution\n"),
        ("telnet", false) => format!("Trying {host}...\ntelnet: Unable to connect to remote host: No route to host\n"),
        (_, true) => format!("ssh: Could not resolve hostname {host}: Temporary failure in name resolution\n"),
        (_, false) => format!("ssh: connect to host {host} port {port}: No route to host\n"),
    };
    shell.complain(io, &text);
    if program == "nc" || program == "telnet" { 1 } else { 255 }
}
