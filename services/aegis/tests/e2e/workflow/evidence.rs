//! Evidence: names that mislead, parts of files, links that do not hold, removal, and what proves that it is intact.

use std::{fs, path::Path, time::Duration};

use rand::RngExt;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{PROVED, Team};
use crate::harness::{Answer, Api, Mode, PASSWORD, Product, binary, eventually, send};

fn random(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    rand::rng().fill(&mut bytes[..]);
    bytes
}

/// Names keep their Unicode and lose what could mislead.
pub async fn names(team: &Team) {
    let test = team.draft(PROVED).await;
    let path = format!("/tests/{test}/evidence");
    let long = format!("{}.txt", "語".repeat(300));
    for (given, kept) in [
        ("../../etc/passwd", Some("passwd")),
        ("C:\\Windows\\system32\\cmd.exe", Some("cmd.exe")),
        ("invoice\u{202E}gpj.exe", Some("invoicegpj.exe")),
        ("日本語 – ✓.txt", Some("日本語 – ✓.txt")),
        ("..", None),
        (long.as_str(), None),
    ] {
        let file = team.red.upload(&path, given, random(100), &[]).await.json(201);
        let name = file["file_name"].as_str().unwrap();
        if let Some(kept) = kept {
            assert_eq!(name, kept);
        }
        assert!(!name.is_empty() && name.len() <= 255 && !name.contains(['/', '\\', '\0']) && name != "..", "{name:?}");
        assert!(given.len() < 300 || name.ends_with(".txt"), "{name}");
        let download = by_link(team, &file).await;
        assert_eq!(download.status, 200, "{download}");
        let disposition = download.header("content-disposition");
        assert!(disposition.starts_with("attachment"), "{disposition}");
    }
    // A NUL as it is makes the body unreadable; written as RFC 5987 has it, it is left out of the name.
    let raw = async |parameter: &str| {
        let body =
            format!("--B\r\nContent-Disposition: form-data; name=\"file\"; {parameter}\r\n\r\n{path}\r\n--B--\r\n");
        let request = team.red.request(Method::POST, &path).header("content-type", "multipart/form-data; boundary=B");
        send(request.body(body)).await
    };
    raw("filename=\"a\0b.txt\"").await.error(400, "VALIDATION_ERROR");
    let file = raw("filename*=utf-8''a%00b%0D%0A.txt").await.json(201);
    assert_eq!(file["file_name"], "ab.txt");
    assert_eq!(team.red.total(&path).await, 7);
    team.viewer.upload(&path, "a.txt", random(10), &[]).await.error(403, "FORBIDDEN");
    let wrong = team.red.upload(&path, "a.txt", random(10), &[("team", "green")]).await;
    assert_eq!(wrong.status, 400, "{wrong}");
    assert_eq!(team.red.total(&path).await, 7);
}

/// The link of a file, whole.
fn link(team: &Team, file: &Value) -> url::Url {
    let link = file["download_url"].as_str().unwrap_or_else(|| panic!("no link: {file}"));
    url::Url::parse(&team.admin.base).unwrap().join(link).unwrap()
}

async fn by_link(team: &Team, file: &Value) -> Answer {
    Api::new(&team.admin.base, None).get(link(team, file).as_str()).await
}

/// Parts of a file, and links that give no right to read.
pub async fn parts_and_links(product: &mut Product, team: &Team) {
    let nobody = Api::new(&team.admin.base, None);
    let test = team.draft(PROVED).await;
    let path = format!("/tests/{test}/evidence");
    let bytes = random(700_000);
    let file = team.red.upload(&path, "parts.bin", bytes.clone(), &[("team", "red")]).await.json(201);
    let url = link(team, &file);
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99999", 0, 99_999),
        ("bytes=300000-", 300_000, 699_999),
        ("bytes=-1000", 699_000, 699_999),
        ("bytes=699999-9999999", 699_999, 699_999),
    ] {
        let part = send(nobody.request(Method::GET, url.as_str()).header("range", range)).await;
        assert_eq!(part.status, 206, "{range}: {:?}", part.headers);
        assert_eq!(part.header("content-range"), format!("bytes {first}-{last}/700000"), "{range}");
        assert!(part.body == bytes[first..=last], "{range}: other bytes came back");
    }
    let beyond = send(nobody.request(Method::GET, url.as_str()).header("range", "bytes=700000-")).await;
    assert_eq!(beyond.status, 416, "{:?}", beyond.headers);
    let whole = nobody.get(url.as_str()).await;
    assert!(whole.status == 200 && whole.body == bytes, "{:?}", whole.headers);

    let other = team.red.upload(&path, "other.bin", random(1000), &[]).await.json(201);
    let refused = async |what: &str, url: url::Url| {
        let answer = nobody.get(url.as_str()).await;
        // A store says in its own way that it does not know an algorithm.
        let refused = if product.mode == Mode::Embedded { 400..500 } else { 400..600 };
        assert!(refused.contains(&answer.status) && answer.body != bytes, "{what}: {}", answer.status);
    };
    // Each parameter, changed or left out.
    let pairs: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    assert!(pairs.len() >= 3, "{url}");
    for position in 0..pairs.len() {
        let mut changed = url.clone();
        let mut others = pairs.clone();
        others[position].1 = altered(&others[position].1);
        changed.query_pairs_mut().clear().extend_pairs(&others);
        refused(&format!("{} changed", pairs[position].0), changed).await;
        let mut without = url.clone();
        others.remove(position);
        without.query_pairs_mut().clear().extend_pairs(&others);
        refused(&format!("without {}", pairs[position].0), without).await;
    }
    let mut of_other = link(team, &other);
    of_other.set_query(url.query());
    refused("of another file", of_other).await;

    if product.mode == Mode::Embedded {
        expired_and_disabled(product, team, &file, &bytes).await;
    }
}

/// Another value of the same form.
fn altered(value: &str) -> String {
    let mut chars: Vec<char> = value.chars().collect();
    let last = chars.iter().rposition(char::is_ascii_alphanumeric);
    match last {
        // The last sign of base64 may have bits that count for nothing.
        Some(last) => {
            let place = last / 2;
            chars[place] = if chars[place] == '1' { '2' } else { '1' };
            chars.into_iter().collect()
        }
        None => "1".to_owned(),
    }
}

/// The gateway's own links: an end in the past is no end; whoever was disabled has given no right.
async fn expired_and_disabled(product: &mut Product, team: &Team, file: &Value, bytes: &[u8]) {
    let nobody = Api::new(&team.admin.base, None);
    let username = format!("flow-leaver-{}", crate::conventions::fresh());
    let leaver = product.user("viewer", &username).await;
    let shown = leaver.get(&format!("/evidence/{}", file["id"].as_str().unwrap())).await.json(200);
    let url = link(team, &shown);
    assert!(nobody.get(url.as_str()).await.body == bytes);
    let mut past = url.clone();
    let pairs: Vec<(String, String)> = url
        .query_pairs()
        .map(|(name, value)| {
            (name.to_string(), if name == "expires" { "1000000000".into() } else { value.to_string() })
        })
        .collect();
    past.query_pairs_mut().clear().extend_pairs(&pairs);
    nobody.get(past.as_str()).await.error(403, "FORBIDDEN");

    let me = leaver.get("/auth/me").await.json(200)["id"].as_str().unwrap().to_owned();
    team.admin.patch(&format!("/users/{me}"), &json!({"is_active": false})).await.json(200);
    let late = nobody.get(url.as_str()).await;
    assert!(matches!(late.status, 401 | 403), "a link of a disabled user: {}", late.status);
    team.admin.patch(&format!("/users/{me}"), &json!({"is_active": true})).await.json(200);
    product.forget(&username);
    product.login(&username, PASSWORD).await;
}

/// Removal needs a reason and a right, and leaves a trace.
pub async fn removed(team: &Team) {
    let test = team.draft(PROVED).await;
    let path = format!("/tests/{test}/evidence");
    let file = team.red.upload(&path, "wrong.bin", random(5000), &[]).await.json(201);
    let id = file["id"].as_str().unwrap();
    let entity = format!("/evidence/{id}");
    let remove = |who: &Api, reason: &str| send(who.request(Method::DELETE, &format!("{entity}?reason={reason}")));
    send(team.red.request(Method::DELETE, &entity)).await.error(400, "VALIDATION_ERROR");
    remove(&team.red, "").await.error(400, "VALIDATION_ERROR");
    remove(&team.red, &"x".repeat(1001)).await.error(400, "VALIDATION_ERROR");
    remove(&team.blue, "mine").await.error(403, "FORBIDDEN");
    remove(&team.viewer, "mine").await.error(403, "FORBIDDEN");
    assert_eq!(team.red.total(&path).await, 1);

    assert_eq!(remove(&team.red, "The%20wrong%20host").await.status, 204);
    team.red.get(&entity).await.error(404, "NOT_FOUND");
    remove(&team.red, "again").await.error(404, "NOT_FOUND");
    team.red.get(&format!("{entity}/verify")).await.error(404, "NOT_FOUND");
    assert_eq!(team.red.total(&path).await, 0);
    eventually("the removal is in the audit trail", Duration::from_secs(15), || async {
        let rows = team.admin.all("/audit-logs?action=remove_evidence").await;
        let row = rows.iter().find(|row| row["entity_id"] == id && row["success"] == true);
        match row {
            Some(row) if row.to_string().contains("The wrong host") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    eventually("the removal is in the timeline", Duration::from_secs(15), || async {
        let timeline = team.red.get(&format!("/tests/{test}/timeline")).await.json(200);
        let entries = timeline.as_array().unwrap().iter().filter(|entry| entry["kind"] == "evidence");
        let told = entries.filter(|entry| entry.to_string().contains("The wrong host")).count();
        if told == 1 { Ok(()) } else { Err(timeline.to_string()) }
    })
    .await;
    // The same bytes again are no copy of what is gone.
    let file = team.red.upload(&path, "kept.bin", random(5000), &[]).await.json(201);
    team.bring(&test, "validated").await;
    let kept = format!("/evidence/{}?reason=late", file["id"].as_str().unwrap());
    send(team.admin.request(Method::DELETE, &kept)).await.error(409, "CONFLICT");
    let late = team.red.upload(&path, "late.bin", random(10), &[]).await;
    assert!(matches!(late.status, 400 | 409), "{late}");
    assert_eq!(team.red.total(&path).await, 1);
}

/// What is stored is what was brought; the manifest says so where there is no product.
pub async fn verified(product: &mut Product, team: &Team) {
    let test = team.draft(PROVED).await;
    let path = format!("/tests/{test}/evidence");
    let folder = product.folder().join(format!("proof-{test}"));
    fs::create_dir_all(&folder).unwrap();
    let mut files = Vec::new();
    for (name, size) in [("one.bin", 300_000), ("zwei ü.bin", 20), ("three.txt", 5000)] {
        let bytes = random(size);
        let file = team.red.upload(&path, name, bytes.clone(), &[("team", "red")]).await.json(201);
        assert_eq!(file["sha256_hash"], hex::encode(Sha256::digest(&bytes)));
        fs::write(folder.join(name), &bytes).unwrap();
        let checked = team.viewer.get(&format!("/evidence/{}/verify", file["id"].as_str().unwrap())).await.json(200);
        assert_eq!(checked["status"], "intact", "{checked}");
        files.push((file, bytes));
    }
    let manifest = team.viewer.get(&format!("{path}/manifest")).await;
    let shown = manifest.json(200);
    assert_eq!(shown["manifest"]["files"].as_array().map(Vec::len), Some(3), "{shown}");
    let place = folder.with_extension("json");
    fs::write(&place, &manifest.body).unwrap();
    let told = verify(&place, &folder).await;
    assert_eq!(told.status.code(), Some(0), "{told:?}");

    // A file that is another, one that is not there, a manifest that says something else.
    fs::write(folder.join("three.txt"), "other").unwrap();
    let told = verify(&place, &folder).await;
    assert!(told.status.code() != Some(0) && said(&told).contains("three.txt"), "{told:?}");
    fs::remove_file(folder.join("three.txt")).unwrap();
    let told = verify(&place, &folder).await;
    assert!(told.status.code() != Some(0) && said(&told).contains("three.txt"), "{told:?}");
    fs::write(folder.join("three.txt"), &files[2].1).unwrap();
    let mut forged = shown.clone();
    forged["payload"] = shown["payload"].as_str().map(altered).into();
    fs::write(&place, forged.to_string()).unwrap();
    assert_ne!(verify(&place, &folder).await.status.code(), Some(0));
    fs::write(&place, "{").unwrap();
    assert_ne!(verify(&place, &folder).await.status.code(), Some(0));
    fs::write(&place, &manifest.body).unwrap();
    assert_eq!(verify(&place, &folder).await.status.code(), Some(0));

    if product.mode == Mode::Embedded {
        let id = files[0].0["id"].as_str().unwrap();
        let stored = find(&product.folder().join("data"), &files[0].1).expect("the stored file");
        let mut other = files[0].1.clone();
        other[77] ^= 1;
        fs::write(&stored, &other).unwrap();
        let checked = team.red.get(&format!("/evidence/{id}/verify")).await.json(200);
        assert_eq!(checked["status"], "altered", "{checked}");
        fs::remove_file(&stored).unwrap();
        let checked = team.red.get(&format!("/evidence/{id}/verify")).await.json(200);
        assert_eq!(checked["status"], "missing", "{checked}");
        fs::write(&stored, &files[0].1).unwrap();
        let checked = team.red.get(&format!("/evidence/{id}/verify")).await.json(200);
        assert_eq!(checked["status"], "intact", "{checked}");
    }
}

async fn verify(manifest: &Path, folder: &Path) -> std::process::Output {
    let mut command = tokio::process::Command::from(binary());
    command.args(["evidence", "verify"]).arg(manifest).arg(folder).kill_on_drop(true);
    command.output().await.unwrap()
}

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The file of the folder with these bytes. Databases are left alone.
fn find(folder: &Path, bytes: &[u8]) -> Option<std::path::PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            if let Some(found) = find(&path, bytes) {
                return Some(found);
            }
        } else if entry.metadata().ok()?.len() == bytes.len() as u64 && fs::read(&path).ok()? == bytes {
            return Some(path);
        }
    }
    None
}
