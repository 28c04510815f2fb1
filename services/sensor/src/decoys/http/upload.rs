//! Files that a request brings: parts of a form that have a file name, and bodies of PUT.

use super::wire::Request;
use crate::session::{Session, escaped};

/// Files of one request that are kept.
const FILES: usize = 8;

/// Keeps what the request brings.
pub(crate) async fn keep(session: &Session, request: &Request) {
    if request.body.is_empty() {
        return;
    }
    if request.method == "PUT" {
        let path = request.path().unwrap_or_default();
        let name = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("body").to_owned();
        file(session, &name, &request.target, &request.body).await;
        return;
    }
    let Some(boundary) = request.field("content-type").and_then(boundary) else {
        return;
    };
    for (name, content) in parts(&request.body, &boundary) {
        file(session, &name, &request.target, content).await;
    }
}

async fn file(session: &Session, name: &str, path: &str, content: &[u8]) {
    if let Some(mut capture) = session.capture(name).await
        && capture.write(content).await.is_ok()
    {
        // A file that cannot be kept is no fault of the client's.
        let _ = capture.finish(path).await;
    }
}

fn boundary(content_type: &str) -> Option<String> {
    let (kind, rest) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = rest.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?;
    let value = value.trim_matches('"');
    (!value.is_empty() && value.len() <= 70).then(|| format!("--{value}"))
}

/// Names and contents of the parts that are files.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<(String, &'a [u8])> {
    let mut files = Vec::new();
    let mut rest = body;
    // A part that is no file counts too: a form of a million empty parts is not looked at to its end.
    for _ in 0..FILES * 8 {
        let Some(at) = find(rest, boundary.as_bytes()) else { break };
        rest = rest.get(at + boundary.len()..).unwrap_or_default();
        let Some(head_end) = find(rest, b"\r\n\r\n") else { break };
        let (head, content) = rest.split_at_checked(head_end).unwrap_or_default();
        let content = content.get(4..).unwrap_or_default();
        let end = find(content, boundary.as_bytes()).unwrap_or(content.len());
        let whole = content.get(..end).unwrap_or_default();
        let whole = whole.strip_suffix(b"\r\n").unwrap_or(whole);
        let head = escaped(head, 1024);
        let name = head.split("filename=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        if !name.is_empty() && files.len() < FILES {
            files.push((name.to_owned(), whole));
        }
        rest = content.get(end..).unwrap_or_default();
    }
    files
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    if what.is_empty() {
        return None;
    }
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_form_are_found() {
        let body = b"--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"s.php\"\r\nContent-Type: text/plain\r\n\r\n<?php\r\n?>\r\n--XX--\r\n";
        let boundary = boundary("multipart/form-data; boundary=XX").unwrap();
        assert_eq!(parts(body, &boundary), [("s.php".to_owned(), &b"<?php\r\n?>"[..])]);
        assert!(parts(b"--XX\r\nno end", &boundary).is_empty());
    }
}
