use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::domain::ini::parse;

fn terms(limit: i32) -> Terms {
    Terms {
        limit,
        default_net: "127.0.0.0/8".parse().unwrap(),
        loopback_offset: 20_000,
        runtime: "native",
        at: "2026-05-01T12:00:00Z".parse().unwrap(),
    }
}

fn planned(text: &str, existing: &Existing, limit: i32) -> Result<Vec<Decky>, Problems> {
    let mut number = 0_u8;
    plan(&parse(text).unwrap(), existing.clone(), &terms(limit), || {
        number += 1;
        [number; 32]
    })
}

fn known(deckies: &[Decky]) -> Existing {
    Existing {
        names: deckies.iter().map(|d| d.name.clone()).collect(),
        ips: deckies.iter().map(|d| d.ip).collect(),
        macs: deckies.iter().map(|d| d.mac.clone()).collect(),
        hostnames: deckies.iter().map(|d| d.hostname.clone()).collect(),
    }
}

#[test]
fn addresses_are_those_of_the_net_that_nobody_has() {
    let text = "[general]\nnet=192.0.2.0/29\ngw=192.0.2.1\n[a]\nip=192.0.2.3\n[b]\namount=3\n";
    let deckies = planned(text, &Existing::default(), 10).unwrap();
    let ips: Vec<_> = deckies.iter().map(|d| d.ip.to_string()).collect();
    assert_eq!(ips, ["192.0.2.3", "192.0.2.2", "192.0.2.4", "192.0.2.5"]);
    // One is left.
    let more = planned("[general]\nnet=192.0.2.0/29\ngw=192.0.2.1\n[c]\n[d]\n", &known(&deckies), 10).unwrap_err();
    assert_eq!((more.first[0].line, more.first[0].section.as_str()), (5, "d"));
    assert!(more.first[0].what.contains("no address left"));
}

#[test]
fn without_a_net_deckies_are_on_loopback_above_the_ports_of_the_machine() {
    let deckies =
        planned("[a]\nservices=ssh,mongodb\n[a.ssh]\nport=2222\n[b]\narchetype=web-server", &Existing::default(), 10);
    let deckies = deckies.unwrap();
    let ports = |d: &Decky| d.services.iter().map(|s| (s.name.clone(), s.port)).collect::<Vec<_>>();
    assert_eq!((deckies[0].ip.to_string(), deckies[1].ip.to_string()), ("127.0.0.2".into(), "127.0.0.3".into()));
    assert_eq!(ports(&deckies[0]), [("ssh".into(), 2222), ("mongodb".into(), 47_017)]);
    assert_eq!(ports(&deckies[1]), [("ssh".into(), 20_022), ("http".into(), 20_080), ("https".into(), 20_443)]);
    let elsewhere = planned("[c]\nip=10.0.0.7\nservices=ssh", &Existing::default(), 10).unwrap();
    assert_eq!(ports(&elsewhere[0]), [("ssh".into(), 22)]);
    assert_eq!(elsewhere[0].network, Network::default());
}

#[test]
fn what_is_there_and_the_limit_are_told_with_line_and_section() {
    let there = known(&planned("[a]\nip=10.0.0.1\n", &Existing::default(), 10).unwrap());
    for (text, limit, line, section, part) in [
        ("[b]\n[a]\n", 10, 2, "a", "'a' is used already"),
        ("[b]\nip=10.0.0.1\n", 10, 2, "b", "10.0.0.1 is used already"),
        ("[b]\n[c]\n[d]\n", 3, 3, "d", "limit of 3 is passed: there are 1 deckies, and 3 more"),
        ("[b]\namount=9\n", 1, 1, "b", "limit of 1 is passed"),
        // Lowered below what there is.
        ("[b]\n", 0, 1, "b", "limit of 0 is passed"),
    ] {
        let problems = planned(text, &there, limit).unwrap_err();
        let first = &problems.first[0];
        assert_eq!((first.line, first.section.as_str()), (line, section), "{text}");
        assert!(first.what.contains(part), "{}", first.what);
    }
    assert_eq!(planned("[b]\n[c]\n", &there, 3).unwrap().len(), 2);
}

#[test]
fn what_is_left_open_is_chosen_so_that_it_fits() {
    let deckies = planned("[any]\namount=60\n[win]\nnmap_os=windows\namount=20\n", &Existing::default(), 500).unwrap();
    for decky in &deckies {
        let archetype = archetypes::archetype(&decky.archetype).unwrap();
        assert!((1..=3).contains(&decky.services.len()));
        assert!(decky.services.iter().all(|s| archetype.pool.contains(&s.name.as_str())), "{decky:?}");
        assert!(archetype.systems.contains(&decky.system.as_str()), "{decky:?}");
    }
    assert!(deckies[60..].iter().all(|d| archetypes::family(&d.system) == Some("windows") && d.nmap_os == "windows"));
    assert!(deckies.iter().map(|d| &d.archetype).collect::<BTreeSet<_>>().len() > 6);
    for differs in [|d: &Decky| d.mac.clone(), |d: &Decky| d.hostname.clone(), |d: &Decky| d.ip.to_string()] {
        assert_eq!(deckies.iter().map(differs).collect::<BTreeSet<_>>().len(), deckies.len());
    }
}

#[test]
fn a_status_is_that_of_all_services() {
    use ServiceStatus::{Failed, Pending, Running};
    let mut decky = planned("[a]\nservices=ssh,http", &Existing::default(), 1).unwrap().remove(0);
    decky.deployed = true;
    assert_eq!(decky.status(), "unreachable");
    decky.sensor_alive = true;
    for (statuses, whole) in [
        ([Running, Running], "running"),
        ([Running, Failed], "degraded"),
        ([Pending, Running], "degraded"),
        ([Failed, Pending], "failed"),
        ([Pending, Pending], "pending"),
    ] {
        for (service, status) in decky.services.iter_mut().zip(statuses) {
            service.status = status;
        }
        assert_eq!(decky.status(), whole);
    }
}

proptest! {
    #[test]
    fn a_mutation_chooses_other_services_of_the_archetype(
        archetype in prop::sample::select(ARCHETYPES.iter().collect::<Vec<_>>()),
        chosen in prop::collection::btree_set(prop::sample::select(archetypes::SERVICES.map(|(name, _)| name).to_vec()), 1..10),
        seed in any::<u64>(),
    ) {
        let now: Vec<String> = chosen.iter().map(|name| (*name).to_owned()).collect();
        let then = others(archetype, &now, &mut StdRng::seed_from_u64(seed));
        let set: BTreeSet<_> = then.iter().copied().collect();
        prop_assert_eq!(set.len(), then.len());
        prop_assert!(!then.is_empty() && then.len() <= now.len());
        prop_assert!(then.iter().all(|name| archetype.pool.contains(name)));
        prop_assert_ne!(&set, &chosen);
        // Nothing stays while there is something else.
        let fresh = archetype.pool.iter().filter(|name| !chosen.contains(*name)).count();
        let stays = then.iter().filter(|name| chosen.contains(*name)).count();
        prop_assert!(stays == 0 || set.len() - stays == fresh);
    }
}
