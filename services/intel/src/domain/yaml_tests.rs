use serde_json::json;

use super::*;

fn document(text: &str) -> Result<Document, Unreadable> {
    file_text(text.as_bytes(), 64 * 1024).and_then(parse_only)
}

fn read(text: &str) -> Result<Node, Unreadable> {
    document(text).map(|document| document.root)
}

fn refused(text: &str) -> String {
    read(text).unwrap_err().reason
}

#[test]
fn lines_are_known() {
    let root = read("# a comment\na: 1\nb:\n  - x\n  - c: |\n      two\n      lines\n").unwrap();
    assert_eq!(root.entry("a").unwrap().line, 2);
    assert_eq!(root.get("a").unwrap().line, 2);
    let list = root.get("b").unwrap().list().unwrap();
    assert_eq!((list[0].line, list[1].line), (4, 5));
    assert_eq!(list[1].get("c").unwrap().text(), Some("two\nlines\n"));
    let aliased = read("a: &x one\nb: *x\n").unwrap();
    assert_eq!((aliased.get("b").unwrap().line, aliased.get("b").unwrap().text()), (2, Some("one")));
}

#[test]
fn scalars_are_what_they_look_like_in_yaml_1_2() {
    let root = read(
        "a: yes\nb: 007\nc: 2024-01-31\nd: 1_000\ne: ~\nf: 1.5\ng: 'true'\nh: .inf\ni: -3\n1: x\nj: !!str 5\nk: 0x1F\n\
         l: 1e3\nm: TRUE\nn: 18446744073709551615\no: 99999999999999999999\np: 1.10\nq: -x\nr: '5'\ns: 0\nt: 1.2.3\n",
    )
    .unwrap();
    assert_eq!(
        root.to_json(),
        json!({"a": "yes", "b": "007", "c": "2024-01-31", "d": "1_000", "e": null, "f": 1.5, "g": "true", "h": ".inf",
            "i": -3, "1": "x", "j": "5", "k": 31, "l": 1000.0, "m": true, "n": 18_446_744_073_709_551_615_u64,
            "o": "99999999999999999999", "p": 1.1, "q": "-x", "r": "5", "s": 0, "t": "1.2.3"})
    );
    assert_eq!((root.said("p"), root.get("p").unwrap().text()), (Some("1.10"), None), "as it is written");
}

#[test]
fn a_bom_and_crlf_are_no_content() {
    let root = read("\u{FEFF}a: |\r\n  one\r\n  two\r\nb: x\r\n").unwrap();
    assert_eq!(root.to_json(), json!({"a": "one\ntwo\n", "b": "x"}));
}

#[test]
fn what_is_no_document_is_told_with_its_line() {
    let bad = file_text(b"a: 1\nb: \xFF\n", 1024).unwrap_err();
    assert_eq!(bad.to_string(), "line 2: it is not UTF-8 text");
    let bad = read("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
    assert!(bad.line >= 2 && bad.reason.starts_with("it is no valid YAML: "), "{bad:?}");
    assert_eq!(file_text(&[b' '; 2048], 1024).unwrap_err().to_string(), "it is larger than 1 KiB");
    assert_eq!(refused(" \n# Nothing.\n"), "it is empty");
    assert!(refused("a: \"x\\0y\"\n").contains("NUL"));
    assert!(refused("\"x\\0y\": a\n").contains("NUL"));
    let bad = read("a: 1\n---\nb: 2\n").unwrap_err();
    assert_eq!((bad.line, bad.reason.as_str()), (3, "it holds more than one document"));
    assert_eq!(refused("a: 1\n...\nb: 2\n"), "another document begins without `---`");
    assert_eq!(refused("~: x\n"), "a key must be a text");
    assert!(refused("a: &a {b: c}\nd:\n  <<: *a\n").contains("merge keys"));
}

#[test]
fn documents_know_where_they_begin() {
    let text = "# Only a comment.\n---\na: 1\n--- # The second.\nb: |\n  ----\n--- {c: 3}\n...\n";
    let slices = documents(text);
    let told: Vec<_> = slices.iter().map(|slice| (slice.lines_before, slice.text)).collect();
    assert_eq!(told, [(2, "a: 1\n"), (4, "b: |\n  ----\n"), (6, "--- {c: 3}\n...\n")]);
    let lines: Vec<_> = slices.into_iter().map(|slice| parse(slice).unwrap().root.entries()[0].line).collect();
    assert_eq!(lines, [3, 5, 7]);
}

#[test]
fn of_a_key_that_is_there_twice_the_last_counts() {
    let document = document("a: 1\nb: 2\na: 3\n").unwrap();
    assert_eq!(document.root.to_json(), json!({"a": 3, "b": 2}));
    assert_eq!(document.root.entries().len(), 2);
    assert_eq!(document.repeated, [UploadProblem::at(3, "a", "is stated twice")]);
}

#[test]
fn bombs_are_refused() {
    const TOO_LARGE: &str = "aliases make the document too large";
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let before = format!("*a{}", n - 1);
        bomb += &format!("a{n}: &a{n} [{}]\n", [before.as_str(); 9].join(", "));
    }
    assert_eq!(refused(&bomb), TOO_LARGE);
    let large: String = (0..50).map(|n| format!("b{n}: *a\n")).collect();
    let large = format!("a: &a {}\n{large}", "x".repeat(10_000));
    assert_eq!(refused(&large), TOO_LARGE, "one large text many times");
    let too_deep = "more than 32 lists and maps are inside one another";
    assert_eq!(refused(&format!("a: {}{}\n", "[".repeat(200), "]".repeat(200))), too_deep);
    let deep: String = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert_eq!(refused(&deep), too_deep);
    assert_eq!(refused("a: &a [*a]\n"), "an alias must stand for something complete before it");
    let anchors: String = (0..101).map(|n| format!("k{n}: &n{n} x\n")).collect();
    assert_eq!(refused(&anchors), "it has more than 100 anchors");
    let aliases: String = (0..101).map(|n| format!("k{n}: *a\n")).collect();
    assert_eq!(refused(&format!("a: &a x\n{aliases}")), "it has more than 100 aliases");
    let keys: String = (0..1_001).map(|n| format!("k{n}: x\n")).collect();
    assert_eq!(refused(&keys), "a map has more than 1000 keys");
    let many = format!("[{}]", "x,".repeat(100_001));
    assert_eq!(parse_only(&many).unwrap_err().reason, "it has too many values");
}
