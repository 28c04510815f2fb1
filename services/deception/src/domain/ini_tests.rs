use proptest::prelude::*;

use super::*;
use crate::domain::settings::Step;

/// What is wrong, as (line, section, text).
fn wrong(text: &str) -> Vec<(usize, String, String)> {
    let problems = parse(text).unwrap_err();
    assert_eq!(problems.more, 0);
    problems.first.into_iter().map(|p| (p.line, p.section, p.what)).collect()
}

#[track_caller]
fn one(text: &str, line: usize, section: &str, part: &str) {
    let wrong = wrong(text);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    let (at, of, what) = &wrong[0];
    assert_eq!((*at, of.as_str()), (line, section), "{what}");
    assert!(what.contains(part), "{what}");
}

#[test]
fn a_deployment_is_read_as_it_stands() {
    let text = "\u{feff}; fleet of the branch\r\n[general]\r\nnet = 192.0.2.0/24\r\ngw: 192.0.2.1\r\nInterface=eth0\r\n\r\n\
                [decky-01]\r\nip = 192.0.2.7\r\nservices = ssh, HTTP,ssh\r\nnmap_os=debian_12\r\nmutate_interval=45\r\n\
                # its ssh\r\n[decky-01.ssh]\r\nauth = list\r\nbanner = 100%; %(here)s # and = more\r\nport = 2222\r\n\
                [web]\r\narchetype=web-server\r\namount=3\r\n[web.https]\r\ntitle=Shop\r\n";
    let deployment = parse(text).unwrap();
    assert_eq!(deployment.net.unwrap().to_string(), "192.0.2.0/24");
    assert_eq!(deployment.gateway.unwrap().to_string(), "192.0.2.1");
    assert_eq!(deployment.interface.as_deref(), Some("eth0"));
    let names: Vec<_> = deployment.deckies.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["decky-01", "web-01", "web-02", "web-03"]);
    let first = &deployment.deckies[0];
    assert_eq!(first.services.as_deref(), Some(["ssh", "http"].as_slice()));
    assert_eq!(first.ip.as_ref().unwrap().0.to_string(), "192.0.2.7");
    assert_eq!(first.nmap_os.as_deref(), Some("debian_12"));
    assert_eq!(first.mutate_interval.as_ref().unwrap().step(), Step::Minutes(45));
    assert_eq!(first.options["ssh"]["banner"], "100%; %(here)s # and = more");
    assert_eq!(first.options["ssh"]["port"], "2222");
    for web in &deployment.deckies[1..] {
        assert_eq!(web.archetype.unwrap().name, "web-server");
        assert!(web.services.is_none() && web.ip.is_none() && web.mutate_interval.is_none());
        assert_eq!(web.options["https"]["title"], "Shop");
    }
}

#[test]
fn an_amount_counts_from_one_and_may_be_a_hundred() {
    let deployment = parse("[a]\namount=100\n[b]\namount=1").unwrap();
    let names: Vec<_> = deployment.deckies.iter().map(|d| d.name.as_str()).collect();
    assert_eq!((names.len(), names[0], names[98], names[99], names[100]), (101, "a-01", "a-99", "a-100", "b-01"));
}

#[test]
fn each_error_is_told_with_line_and_section() {
    one("[general]\nnet=10.0.0.0/8\n\n[Bad_Name]\nservices=ssh\n", 4, "Bad_Name", "a to z");
    one("[a]\n[deploy]\nservices=ssh\n", 2, "deploy", "no decky is called 'deploy'");
    one("[a]\nservices=ssh,smb\n", 2, "a", "unknown service 'smb'");
    one("[a]\narchetype=toaster\n", 2, "a", "unknown archetype 'toaster'");
    one("[a]\nnmap_os=vms\n", 2, "a", "unknown nmap_os 'vms'");
    one("[a]\n[b]\n[a]\nservices=ssh\n", 3, "a", "twice");
    one("[a]\namount=2\n[a-02]\n", 3, "a-02", "'a-02' is used twice");
    one("[a]\nip=10.0.0.1\n[b]\nip=10.0.0.1\n", 4, "b", "10.0.0.1 is used twice: [a] has it");
    one("[general]\nnet=10.0.0.0/24\n[a]\nip=10.0.1.1\n", 4, "a", "outside of the net 10.0.0.0/24");
    one("[general]\nnet=10.0.0.0/24\n[a]\nip=10.0.0.255\n", 4, "a", "all of it");
    one("[a]\nip=10.0.0.1\n[general]\nnet=10.0.1.0/24\n", 2, "a", "outside of the net");
    one("[general]\nnet=10.0.0.0/24\ngw=10.0.0.9\n[a]\nip=10.0.0.9\n", 5, "a", "gateway");
    one("[general]\nnet=10.0.0.0/24\ngw=10.0.9.9\n[a]\n", 3, "general", "outside of the net");
    one("[general]\nnet=ten\n[a]\n", 2, "general", "no network");
    one("[general]\ninterface=eth0; rm -rf\n[a]\n", 2, "general", "network interface");
    for amount in ["0", "101", "-1", "+2", "x", "", "99999999999999999999"] {
        one(&format!("[a]\namount={amount}\n"), 2, "a", "bad amount");
    }
    one("[a]\nip=10.0.0.1\namount=2\n[general]\nnet=10.0.0.0/8", 3, "a", "do not go together");
    for minutes in ["0", "-5", "1h", "1.5", "", "99999999999999"] {
        one(&format!("[a]\nmutate_interval={minutes}\n"), 2, "a", "bad mutate_interval");
    }
    one("[a]\nip=ten\n", 2, "a", "no address");
    one("[a]\nip=224.0.0.1\n", 2, "a", "no address of a machine");
    one("[a]\nservices=,\n", 2, "a", "names no service");
    one("[a]\nservice=ssh\n", 2, "a", "no key 'service'");
    one("[a]\nservices=ssh\nservices=http\n", 3, "a", "twice");
    one("services=ssh\n[a]\n", 1, "", "before the first section");
    one("[a]\nservices\n", 2, "a", "neither");
    one("[a\nservices=ssh\n[b]\n", 1, "", "[name]");
    one("[a]\nservices=ssh\u{0}\n", 2, "a", "control character");
    one("[a.ssh]\nport=1\n[b]\n", 1, "a.ssh", "no section [a]");
    one("[a]\nservices=ssh\n[a.smtp]\nx=1\n", 3, "a.smtp", "no service 'smtp'");
    one("[a]\n[a.smb]\nx=1\n", 2, "a.smb", "unknown service 'smb'");
    one("[a]\n[a.ssh]\nport=0\n", 3, "a.ssh", "1 to 65535");
    one("[a]\n[a.ssh]\nport=80\n", 3, "a.ssh", "that of http");
    one("[general]\nnet=10.0.0.0/8\n", 1, "", "no decky");
    one("", 1, "", "no decky");
    one(&format!("[{}]\namount=2", "a".repeat(63)), 1, &"a".repeat(63), "longer than 63");
}

#[test]
fn all_errors_are_told_at_once_and_in_their_order() {
    let text = "[a]\narchetype=x\nservices=smb\n[B]\n[c]\namount=0\n";
    let lines: Vec<_> = wrong(text).into_iter().map(|(line, section, _)| (line, section)).collect();
    assert_eq!(lines, [(2, "a".to_owned()), (3, "a".to_owned()), (4, "B".to_owned()), (6, "c".to_owned())]);
    let many = parse(&"[B]\n".repeat(1000)).unwrap_err();
    assert_eq!((many.first.len(), many.more), (20, 980));
}

#[test]
fn more_than_there_can_ever_be_is_refused_without_making_them() {
    let text: String = (0..40_000).map(|n| format!("[d{n}]\namount=9\n")).collect();
    assert!(text.len() <= MAX_BYTES * 2);
    let problems = parse(&text).unwrap_err();
    assert_eq!((problems.first.len(), problems.first[0].section.as_str()), (1, "d55"));
}

fn name() -> impl Strategy<Value = String> {
    "[a-f][a-z0-9-]{0,8}".prop_filter("reserved", |name| name != "general")
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_a_line_that_it_has(text in any::<String>()) {
        if let Err(problems) = parse(&text) {
            prop_assert!(!problems.first.is_empty());
            for problem in problems.first {
                prop_assert!((1..=text.split('\n').count()).contains(&problem.line));
            }
        }
    }

    #[test]
    fn text_that_is_nearly_ini_too(
        lines in prop::collection::vec(
            "(\\[(general|[a-c]{1,2}|[a-c].ssh|A)\\]?|(ip|net|gw|services|amount|port|mutate_interval) ?[=:] ?[0-9a-z.,/%;:]{0,12}|[;# ].{0,5})",
            0..24,
        ),
    ) {
        let text = lines.join("\n");
        match parse(&text) {
            Ok(deployment) => {
                let mut names: Vec<_> = deployment.deckies.iter().map(|d| &d.name).collect();
                prop_assert!(!names.is_empty());
                prop_assert!(names.iter().all(|name| is_name(name)));
                names.sort();
                names.dedup();
                prop_assert_eq!(names.len(), deployment.deckies.len());
            }
            Err(problems) => prop_assert!(problems.first.is_sorted_by_key(|problem| problem.line)),
        }
    }

    #[test]
    fn what_is_written_is_what_is_read(
        deckies in prop::collection::btree_map(
            name(),
            (prop::sample::subsequence(archetypes::SERVICES.map(|(name, _)| name).to_vec(), 1..6), 1..5000_u32, "[ -~]{0,40}"),
            1..10,
        ),
        comment in "[ -~]{0,30}",
        crlf in any::<bool>(),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut text = format!("; {comment}{end}[general]{end}net = 10.0.0.0/16{end}");
        for (number, (name, (services, minutes, value))) in deckies.iter().enumerate() {
            text += &format!("  [{name}]{end}ip=10.0.3.{}{end}", number + 1);
            text += &format!("services = {}{end}mutate_interval : {minutes}{end}{end}", services.join(" , "));
            text += &format!("[{name}.{}]{end}motd = {value}{end}", services[0]);
        }
        let deployment = parse(&text).unwrap();
        prop_assert_eq!(deployment.deckies.len(), deckies.len());
        for wanted in deployment.deckies {
            let (services, minutes, value) = &deckies[&wanted.name];
            prop_assert_eq!(wanted.services.as_ref(), Some(services));
            prop_assert_eq!(wanted.mutate_interval.unwrap().step(), Step::Minutes(*minutes));
            prop_assert_eq!(&wanted.options[services[0]]["motd"], value.trim());
        }
    }
}
