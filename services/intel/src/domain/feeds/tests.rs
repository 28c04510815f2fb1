use chrono::TimeZone;

use super::*;

fn read(text: &str) -> FeedDocument {
    parse_feed(text.as_bytes()).unwrap()
}

#[test]
fn rss_2() {
    let feed = read(
        "\u{feff}<?xml version=\"1.0\"?>
        <rss version=\"2.0\" xmlns:content=\"http://purl.org/rss/1.0/modules/content/\"><channel>
          <title>Advisories &amp;amp; news</title><link>https://example.org</link><description>d</description>
          <item><guid isPermaLink=\"false\">a-1</guid><title>CVE-2021-44228 &lt;b&gt;again&lt;/b&gt;</title>
            <link>https://example.org/a-1</link><pubDate>Fri, 10 Dec 2021 12:00:00 GMT</pubDate>
            <description><![CDATA[<p>Log4Shell &amp; more</p><script>alert(1)</script><p>APT41</p>]]></description></item>
          <item><title>No guid</title><link>https://example.org/2</link><content:encoded>&lt;p&gt;Long&lt;/p&gt;</content:encoded></item>
          <item><title>Nothing but a title</title><link>javascript:alert(1)</link></item>
          <item><description>Only text</description></item>
          <item></item>
        </channel></rss>",
    );
    assert_eq!(feed.title, "Advisories & news");
    let [first, second, third, fourth] = feed.items.as_slice() else { panic!("{feed:?}") };
    assert_eq!((first.external_id.as_str(), first.title.as_str()), ("a-1", "CVE-2021-44228 again"));
    assert_eq!(first.summary, "Log4Shell & more\nAPT41");
    assert_eq!(first.url.as_deref(), Some("https://example.org/a-1"));
    assert_eq!(first.published_at, Some(Utc.with_ymd_and_hms(2021, 12, 10, 12, 0, 0).unwrap()));
    assert_eq!((second.external_id.as_str(), second.summary.as_str()), ("https://example.org/2", "Long"));
    assert!(third.url.is_none() && third.external_id.starts_with("sha256:") && third.published_at.is_none());
    assert_eq!((fourth.title.as_str(), fourth.summary.as_str()), ("Only text", "Only text"));
    // The same each time, or an item would be new each day.
    assert_eq!(fourth.external_id, digest(&["Only text", "Only text"]));
}

#[test]
fn rss_1() {
    let feed = read(
        "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\" xmlns=\"http://purl.org/rss/1.0/\"
                  xmlns:dc=\"http://purl.org/dc/elements/1.1/\">
          <channel rdf:about=\"https://example.org\"><title>RDF</title><link>https://example.org</link><description>d</description></channel>
          <item rdf:about=\"https://example.org/1\"><title>One</title><link>https://example.org/1</link><description>S</description>
            <dc:date>2024-01-02T03:04:05Z</dc:date></item>
        </rdf:RDF>",
    );
    assert_eq!((feed.title.as_str(), feed.items.len()), ("RDF", 1));
    assert_eq!(feed.items[0].url.as_deref(), Some("https://example.org/1"));
    assert_eq!(feed.items[0].published_at, Some(Utc.with_ymd_and_hms(2024, 1, 2, 3, 4, 5).unwrap()));
}

#[test]
fn atom() {
    let feed = read(
        "<feed xmlns=\"http://www.w3.org/2005/Atom\"><title>Atom</title><id>f</id><updated>2024-01-01T00:00:00Z</updated>
          <entry><id>urn:1</id><title type=\"text\">Use of &lt;PID&gt;</title><updated>2024-01-02T00:00:00Z</updated>
            <link rel=\"self\" href=\"https://example.org/self\"/><link href=\"https://example.org/1\"/>
            <summary type=\"html\">&lt;p&gt;A &lt;i&gt;b&lt;/i&gt;&lt;/p&gt;</summary></entry>
          <entry><id>urn:2</id><title type=\"html\">T&amp;lt;</title><updated>2024-01-02T00:00:00Z</updated>
            <content type=\"xhtml\"><div xmlns=\"http://www.w3.org/1999/xhtml\"><p>X <b>y</b></p></div></content></entry>
        </feed>",
    );
    let [first, second] = feed.items.as_slice() else { panic!("{feed:?}") };
    assert_eq!((first.title.as_str(), first.summary.as_str()), ("Use of <PID>", "A b"));
    assert_eq!(first.url.as_deref(), Some("https://example.org/1"));
    assert_eq!((second.title.as_str(), second.summary.as_str()), ("T<", "X y"));
}

#[test]
fn json_feed() {
    let feed = read(
        r#"{"version": "https://jsonfeed.org/version/1.1", "title": "JSON", "items": [
            {"id": "1", "url": "https://example.org/1", "title": "One", "content_html": "<p>Hello &lt;x&gt;</p>", "date_published": "2024-01-02T03:04:05Z"},
            {"id": "2", "content_text": "Plain a<b"}]}"#,
    );
    let [first, second] = feed.items.as_slice() else { panic!("{feed:?}") };
    assert_eq!((feed.title.as_str(), first.summary.as_str()), ("JSON", "Hello <x>"));
    assert!(first.published_at.is_some());
    assert_eq!((second.title.as_str(), second.summary.as_str()), ("Plain a<b", "Plain a<b"));
}

#[test]
fn bounds() {
    let item = |n: usize| {
        format!("<item><guid>{n}</guid><title>t</title><description>{}</description></item>", "x".repeat(5_000))
    };
    let items: String = (0..600).map(item).collect();
    let feed = read(&format!("<rss version=\"2.0\"><channel><title>t</title>{items}</channel></rss>"));
    assert_eq!(feed.items.len(), MAX_ITEMS);
    assert!(feed.items.iter().all(|item| item.summary.len() == MAX_SUMMARY));
    assert!(parse_feed(&vec![b' '; MAX_FEED + 1]).unwrap_err().0.contains("larger than 5 MiB"));

    let deep = format!("<rss version=\"2.0\"><channel>{}", "<a>".repeat(200_000));
    assert!(parse_feed(deep.as_bytes()).is_err());
    let deep = format!(
        "{{\"version\": \"https://jsonfeed.org/version/1\", \"title\": \"t\", \"items\": {}",
        "[".repeat(200_000)
    );
    assert!(parse_feed(deep.as_bytes()).is_err());
    let long = format!(
        "<rss version=\"2.0\"><channel><title>t</title><item><guid>{}</guid><title>t</title></item></channel></rss>",
        "g".repeat(900)
    );
    assert_eq!(read(&long).items[0].external_id.len(), 7 + 64);
}

#[test]
fn hostile_and_broken_feeds_are_refused() {
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE r [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>
        <rss version=\"2.0\"><channel><title>&b;</title></channel></rss>";
    assert!(parse_feed(bomb.as_bytes()).unwrap_err().0.contains("declares entities"));
    let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain(bomb.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert!(parse_feed(&wide).unwrap_err().0.contains("declares entities"));
    let external = "<!DOCTYPE r [<!entity x SYSTEM \"file:///etc/hostname\">]><rss version=\"2.0\"><channel><title>&x;</title></channel></rss>";
    assert!(parse_feed(external.as_bytes()).is_err());
    // What a publisher of old feeds writes, and harmless.
    let old = "<!DOCTYPE rss PUBLIC \"-//Netscape Communications//DTD RSS 0.91//EN\" \"http://my.netscape.com/publish/formats/rss-0.91.dtd\">
        <rss version=\"0.91\"><channel><title>old</title><link>https://example.org</link><description>d</description><language>en</language>
        <item><title>t</title><link>https://example.org/1</link></item></channel></rss>";
    assert_eq!(read(old).items.len(), 1);

    for broken in ["", "<html><body>Sign in</body></html>", "{\"a\": 1}", "not a feed"] {
        assert!(parse_feed(broken.as_bytes()).unwrap_err().0.contains("check the feed's url"), "{broken}");
    }
    let whole = "<rss version=\"2.0\"><channel><title>t</title><item><title>a</title></item></channel></rss>";
    assert!(parse_feed(&whole.as_bytes()[..60]).is_err());
    assert!(parse_feed(b"<rss version=\"2.0\"><channel><title>\xff\xfe\xc3</title></channel></rss>").is_err());
    let latin = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><rss version=\"2.0\"><channel><title>gr\xfcn</title></channel></rss>";
    assert_eq!(parse_feed(latin).unwrap().title, "grün");
}
