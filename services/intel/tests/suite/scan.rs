//! The intel scan: feeds of every format and KEV from a server on this machine, what they match, and what is flagged.

use std::collections::BTreeSet;

use aegis_auth::Role;
use aegis_error::{Code, Failure};
use aegis_proto::intel::v1::{
    CreateFeedRequest, DeleteFeedRequest, ListFeedsRequest, ListItemsRequest, ReviewItemRequest, RunScanRequest,
    UpdateFeedRequest,
};

use crate::scan_world::World;

const RSS: &str = r#"<?xml version="1.0"?>
<rss version="2.0"><channel><title>News</title><link>https://example.org</link><description>d</description>
<item><title>Gang uses T1059.001 again</title><link>https://example.org/1</link><guid>one</guid>
<pubDate>Fri, 21 Nov 2025 10:00:00 GMT</pubDate><description>Seen with &lt;b&gt;Cobalt Strike&lt;/b&gt;.</description></item>
<item><title>The company picnic</title><link>https://example.org/2</link><guid>two</guid>
<description>Nothing of note.</description></item>
</channel></rss>"#;

const ATOM: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom"><title>Lab</title><id>urn:lab</id><updated>2025-11-21T10:00:00Z</updated>
<entry><id>urn:lab:1</id><title>Cozy Bear is back</title><link href="https://example.org/bear"/>
<updated>2025-11-20T10:00:00Z</updated><summary>They use PowerShell.</summary></entry></feed>"#;

const JSON_FEED: &str = r#"{"version": "https://jsonfeed.org/version/1.1", "title": "Notes", "items": [
{"id": "n1", "url": "javascript:alert(1)", "title": "Patch CVE-2021-44228", "content_text": "Now.",
 "date_published": "2025-11-19T10:00:00Z"}]}"#;

fn kev(entries: &[(&str, &str, &str)]) -> String {
    let entries: Vec<_> = entries
        .iter()
        .map(|(cve, name, description)| {
            serde_json::json!({
                "cveID": cve, "vendorProject": "Apache", "product": "Log4j2", "vulnerabilityName": name,
                "dateAdded": "2021-12-10", "shortDescription": description, "requiredAction": "Update.",
                "dueDate": "2021-12-24", "knownRansomwareCampaignUse": "Known", "notes": "", "cwes": ["CWE-502"],
            })
        })
        .collect();
    serde_json::json!({
        "title": "CISA Catalog of Known Exploited Vulnerabilities", "catalogVersion": "2025.01.27",
        "dateReleased": "2025-01-27T15:00:00.0000Z", "count": entries.len(), "vulnerabilities": entries,
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feeds_of_every_format_are_matched_and_flag_once() {
    for world in World::all().await {
        let news = world.feed("News", &world.site.serve("/rss", RSS)).await;
        world.feed("Lab", &world.site.serve("/atom", ATOM)).await;
        world.feed("Notes", &world.site.serve("/notes.json", JSON_FEED)).await;
        let scan = world.scan().await.unwrap();
        assert_eq!((scan.new_items, scan.matched, scan.flagged, scan.problems.len()), (4, 3, 2, 0));
        let flags = world.flagged();
        assert_eq!(flags.keys().collect::<Vec<_>>(), ["T1059.001", "T1190"]);
        assert_eq!(flags["T1190"], "intel: Patch CVE-2021-44228");

        let all = world.items(ListItemsRequest::default()).await;
        let shown: BTreeSet<(String, Vec<String>)> = all
            .iter()
            .map(|item| {
                let why = item.matches.iter().map(|m| format!("{} {} {}", m.key, m.by, m.text)).collect();
                (item.external_id.clone(), why)
            })
            .collect();
        let expected = [
            ("one", vec!["T1059.001 id T1059.001", "S0154 name Cobalt Strike"]),
            ("urn:lab:1", vec!["T1059.001 name PowerShell", "G0016 alias Cozy Bear"]),
            ("n1", vec!["T1190 cve_mapping CVE-2021-44228"]),
        ];
        let expected: BTreeSet<(String, Vec<String>)> = expected
            .into_iter()
            .map(|(id, why)| (id.to_owned(), why.into_iter().map(str::to_owned).collect()))
            .collect();
        assert_eq!(shown, expected);
        let note = all.iter().find(|item| item.external_id == "n1").unwrap();
        assert_eq!((note.url.as_deref(), note.kind.as_str(), note.source.as_str()), (None, "feed", "Notes"));
        let gang = all.iter().find(|item| item.external_id == "one").unwrap();
        assert_eq!((gang.url.as_deref(), gang.reviewed), (Some("https://example.org/1"), false));
        assert!(!gang.summary.contains('<'), "{}", gang.summary);

        // Filters.
        assert_eq!(world.everything().await.len(), 4);
        let of_news = ListItemsRequest { feed_id: Some(news.id.clone()), ..ListItemsRequest::default() };
        assert_eq!(world.items(of_news).await.len(), 1);
        for (request, found) in [
            (ListItemsRequest { mitre_technique_id: Some("t1059.001".to_owned()), ..Default::default() }, 2),
            (ListItemsRequest { search: Some("BEAR".to_owned()), ..Default::default() }, 1),
            (ListItemsRequest { search: Some("100%".to_owned()), ..Default::default() }, 0),
            (ListItemsRequest { kind: Some("kev".to_owned()), ..Default::default() }, 0),
            (ListItemsRequest { reviewed: Some(true), ..Default::default() }, 0),
        ] {
            assert_eq!(world.items(request.clone()).await.len(), found, "{request:?}");
        }
        let first = ListItemsRequest { page_size: 2, ..ListItemsRequest::default() };
        let page = world.client(Role::Viewer).list_items(first.clone()).await.unwrap().into_inner();
        assert_eq!((page.items.len(), page.total_size), (2, 3));
        let rest = world.items(ListItemsRequest { page_token: page.next_page_token, ..first }).await;
        assert_eq!(rest.len(), 1);

        // A person looks at one of the two; the next day brings nothing new, and nothing is flagged again.
        world.knowledge.flagged.lock().unwrap().clear();
        world.site.answers();
        let again = world.scan().await.unwrap();
        assert_eq!((again.new_items, again.matched, again.flagged), (0, 0, 0));
        assert_eq!(
            world.site.answers(),
            ["/atom 304 Not Modified", "/notes.json 304 Not Modified", "/rss 304 Not Modified"]
        );
        // The same items in a document that is another.
        world.site.serve("/rss", RSS.replace("The company picnic", "The picnic of the company"));
        let again = world.scan().await.unwrap();
        assert_eq!((again.new_items, again.flagged), (0, 0));
        assert!(world.flagged().is_empty());

        let audits = world.audits("run_intel_scan").await;
        assert_eq!(audits.len(), 3);
        assert!(audits[0].success && audits[0].details_json.contains("\"flagged\":2"));
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_vulnerabilities_lead_to_their_techniques() {
    for world in World::all().await {
        let log4j = ("CVE-2021-44228", "Log4Shell", "Used by APT29.");
        let other = ("CVE-2020-0001", "Other", "Of no note.");
        let counts = world.sync_kev(&kev(&[log4j, other])).await;
        assert_eq!(counts["new"], 2, "{counts}");
        let scan = world.scan().await.unwrap();
        assert_eq!((scan.new_items, scan.matched, scan.flagged), (2, 1, 1));
        assert_eq!(world.flagged()["T1190"], "intel: CVE-2021-44228: Log4Shell");
        let items = world.items(ListItemsRequest::default()).await;
        assert_eq!((items[0].kind.as_str(), items[0].source.as_str()), ("kev", "CISA KEV"));
        let why: Vec<_> = items[0].matches.iter().map(|m| (m.kind.as_str(), m.key.as_str(), m.by.as_str())).collect();
        assert_eq!(why, [("technique", "T1190", "cve_mapping"), ("threat_actor", "G0016", "name")]);
        assert!(items[0].published_at.is_some());

        // One is changed, one vanishes, one is new: only that one is an item.
        let changed = (log4j.0, "Log4Shell, again", log4j.2);
        let new = ("CVE-2024-0002", "New", "Leads to T1486.");
        let counts = world.sync_kev(&kev(&[changed, new])).await;
        assert_eq!((&counts["new"], &counts["updated"]), (&1.into(), &1.into()), "{counts}");
        let scan = world.scan().await.unwrap();
        assert_eq!((scan.new_items, scan.matched, scan.flagged), (1, 1, 1));
        assert_eq!(world.flagged().len(), 2);
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_that_is_away_loses_nothing() {
    for world in World::all().await {
        world.feed("News", &world.site.serve("/rss", RSS)).await;
        *world.knowledge.failure.lock().unwrap() = Some(Failure::unavailable("catalog"));
        assert_eq!(world.scan().await.unwrap_err().code(), Code::Unavailable);
        assert!(world.items(ListItemsRequest::default()).await.is_empty());
        assert_eq!(world.everything().await.len(), 2);
        let scan = world.scan().await.unwrap();
        assert_eq!((scan.new_items, scan.matched, scan.flagged), (0, 1, 1));
        assert_eq!(world.items(ListItemsRequest::default()).await.len(), 1);
        let audits = world.audits("run_intel_scan").await;
        assert_eq!(audits.iter().map(|audit| audit.success).collect::<Vec<_>>(), [false, true]);
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_feeds_are_refused_and_keep_no_other_from_it() {
    let bomb = r#"<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">
        <!ENTITY lol2 "&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;">
        <!ENTITY lol3 "&lol2;&lol2;&lol2;&lol2;&lol2;&lol2;&lol2;&lol2;&lol2;&lol2;">]>
        <rss version="2.0"><channel><title>&lol3;</title><item><title>&lol3; T1059.001</title><guid>x</guid></item></channel></rss>"#;
    for world in World::all().await {
        let large = format!("{}{}", RSS.replace("</channel></rss>", ""), " ".repeat(10 * 1024 * 1024));
        let packed = {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &vec![b' '; 8 * 1024 * 1024]).unwrap();
            encoder.finish().unwrap()
        };
        assert!(packed.len() < 1024 * 1024);
        world.feed("bomb", &world.site.serve("/bomb", bomb)).await;
        world.feed("gone", &format!("{}/nothing", world.site.address)).await;
        world.feed("good", &world.site.serve("/rss", RSS)).await;
        world.feed("large", &world.site.serve("/large", large)).await;
        world.feed("packed", &world.site.serve("/packed", packed)).await;
        world.feed("page", &world.site.serve("/page", "<!DOCTYPE html><html><body>Hello</body></html>")).await;
        let scan = world.scan().await.unwrap();
        let names: Vec<&str> = scan.problems.iter().map(|problem| problem.feed.as_str()).collect();
        assert_eq!(names, ["bomb", "gone", "large", "packed", "page"], "{:?}", scan.problems);
        assert!(scan.problems.iter().all(|p| !p.problem.is_empty() && p.problem.len() < 1000), "{:?}", scan.problems);
        assert_eq!((scan.new_items, scan.matched), (2, 1));
        for feed in world.feeds().await {
            assert_eq!(feed.last_error.is_none(), feed.name == "good", "{feed:?}");
            assert!(feed.last_read_at.is_some());
            assert_eq!(feed.items, if feed.name == "good" { 2 } else { 0 });
        }
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feeds_are_managed_by_administrators_and_items_reviewed_by_leads() {
    for world in World::all().await {
        let mut admin = world.client(Role::Admin);
        let url = world.site.serve("/rss", RSS);
        let create = |name: &str, url: &str| CreateFeedRequest { name: name.to_owned(), url: url.to_owned() };
        for (name, url, field) in [
            ("", url.as_str(), "name"),
            ("a\nb", url.as_str(), "name"),
            ("x", "file:///etc/passwd", "url"),
            ("x", "ftp://example.org/x", "url"),
            ("x", "https://me:secret@example.org/", "url"),
        ] {
            let failure = Failure::from(admin.create_feed(create(name, url)).await.unwrap_err());
            assert_eq!((failure.code(), failure.fields()[0].field.as_str()), (Code::Validation, field));
        }
        let feed = world.feed(" News ", &url).await;
        assert_eq!((feed.name.as_str(), feed.enabled, feed.version), ("News", true, 1));
        let taken = Failure::from(admin.create_feed(create("News", &url)).await.unwrap_err());
        assert_eq!(taken.code(), Code::Duplicate);
        let other = world.feed("Other", &url).await;
        let rename = UpdateFeedRequest { id: other.id.clone(), name: Some("News".to_owned()), ..Default::default() };
        assert_eq!(Failure::from(admin.update_feed(rename).await.unwrap_err()).code(), Code::Duplicate);
        let off = UpdateFeedRequest { id: other.id.clone(), enabled: Some(false), ..Default::default() };
        let off = admin.update_feed(off).await.unwrap().into_inner().feed.unwrap();
        assert_eq!((off.enabled, off.version), (false, 2));
        for role in [Role::RedLead, Role::BlueTech, Role::Viewer] {
            let mut client = world.client(role);
            let denied = [
                client.create_feed(create("x", &url)).await.map(|_| ()),
                client.list_feeds(ListFeedsRequest::default()).await.map(|_| ()),
                client.delete_feed(DeleteFeedRequest { id: feed.id.clone() }).await.map(|_| ()),
                client.run_scan(RunScanRequest { wait: true }).await.map(|_| ()),
            ];
            assert!(denied.into_iter().all(|answer| Failure::from(answer.unwrap_err()).code() == Code::Forbidden));
        }
        assert_eq!(world.scan().await.unwrap().new_items, 2, "one of the feeds is off");

        let item = world.items(ListItemsRequest::default()).await.remove(0);
        let review = |reviewed| ReviewItemRequest { id: item.id.clone(), reviewed };
        let denied = world.client(Role::BlueTech).review_item(review(true)).await.unwrap_err();
        assert_eq!(Failure::from(denied).code(), Code::Forbidden);
        let done = world.client(Role::BlueLead).review_item(review(true)).await.unwrap().into_inner().item.unwrap();
        assert_eq!((done.reviewed, done.reviewed_by.as_str(), done.version), (true, "ada", 2));
        assert!(done.reviewed_at.is_some() && done.matches == item.matches);
        let open = ListItemsRequest { reviewed: Some(false), ..ListItemsRequest::default() };
        assert!(world.items(open).await.is_empty());
        let again = admin.review_item(review(false)).await.unwrap().into_inner().item.unwrap();
        assert_eq!((again.reviewed, again.reviewed_by.as_str(), again.reviewed_at), (false, "", None));

        admin.delete_feed(DeleteFeedRequest { id: feed.id.clone() }).await.unwrap();
        assert!(world.everything().await.is_empty());
        let gone = Failure::from(admin.delete_feed(DeleteFeedRequest { id: feed.id }).await.unwrap_err());
        assert_eq!(gone.code(), Code::NotFound);
        for (action, count) in [("create_feed", 2), ("update_feed", 1), ("delete_feed", 1), ("review_intel_item", 2)] {
            assert_eq!(world.audits(action).await.len(), count, "{action}");
        }
        world.base.close().await;
    }
}
