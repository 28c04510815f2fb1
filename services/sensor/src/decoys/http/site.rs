//! What a decky's web server shows: a site that fits its archetype, with a login.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    build::{Build, How, Kind, Page},
    wire::{Request, escape},
};
use crate::{
    decoys::{Options, credentials::Credentials},
    persona::{Os, Persona},
    session::{EventType, Session},
};

/// What is tried most on web logins.
const COMMON: [(&str, &str); 16] = [
    ("admin", "admin"),
    ("admin", "password"),
    ("admin", "123456"),
    ("admin", "admin123"),
    ("admin", "12345"),
    ("admin", "1234"),
    ("admin", "password123"),
    ("admin", "changeme"),
    ("admin", "Passw0rd"),
    ("administrator", "password"),
    ("root", "root"),
    ("root", "toor"),
    ("user", "user"),
    ("test", "test"),
    ("guest", "guest"),
    ("webmaster", "webmaster"),
];
/// Names of fields that hold a user name or a password, in forms of all kinds.
const USER_FIELDS: [&str; 12] = [
    "username",
    "user",
    "_user",
    "login",
    "log",
    "email",
    "name",
    "account",
    "uname",
    "pma_username",
    "j_username",
    "userid",
];
const PASSWORD_FIELDS: [&str; 10] =
    ["password", "pass", "_pass", "passwd", "pwd", "passwort", "pma_password", "j_password", "psw", "pw"];

/// How one logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    Form,
    /// The whole site asks for HTTP's basic authentication.
    Basic,
}

/// A site.
pub(crate) struct Site {
    build: Build,
    credentials: Credentials,
    login: Login,
    title: String,
    heading: String,
    /// Where the login is, and where it leads.
    path: &'static str,
    home: &'static str,
    user_field: &'static str,
    password_field: &'static str,
    cookie: &'static str,
    colour: String,
    changed: DateTime<Utc>,
    secret: [u8; 32],
    icon: Vec<u8>,
    /// What the site has besides, each with its rows.
    rows: Vec<String>,
    /// Whether the first page is that of IIS.
    plain: bool,
}

impl Site {
    pub(crate) fn new(persona: &Persona, options: &Options, build: Build) -> Result<Site, String> {
        let credentials = Credentials::new(persona, "http", options, &COMMON)?;
        let host = persona.hostname.clone();
        let short = host.split('.').next().unwrap_or_default().to_owned();
        let script = build != Build::Iis;
        let (login, title, heading, path, home, user_field, password_field) = match persona.archetype.as_str() {
            "mail-server" if script => (
                Login::Form,
                "Webmail :: Sign in".to_owned(),
                "Webmail".to_owned(),
                "/webmail/",
                "/webmail/inbox",
                "_user",
                "_pass",
            ),
            "database-server" | "cache-server" | "search-node" if script => (
                Login::Form,
                "Data console".to_owned(),
                format!("Data console on {short}"),
                "/dbadmin/index.php",
                "/dbadmin/overview.php",
                "pma_username",
                "pma_password",
            ),
            "devops-host" => (
                Login::Form,
                "Build status".to_owned(),
                format!("Builds on {short}"),
                "/login",
                "/jobs/",
                "j_username",
                "j_password",
            ),
            "file-server" => (
                Login::Form,
                format!("Files on {short}"),
                "Shared files".to_owned(),
                "/login.php",
                "/files/",
                "user",
                "password",
            ),
            "ip-camera" => (Login::Basic, "IP Camera".to_owned(), "Live view".to_owned(), "/", "/", "", ""),
            "router" => (Login::Basic, "Router administration".to_owned(), "Status".to_owned(), "/", "/", "", ""),
            "printer" => (
                Login::Form,
                format!("{short} - Device status"),
                "Device status".to_owned(),
                "/login.htm",
                "/settings.htm",
                "user",
                "password",
            ),
            _ if build == Build::Iis => (
                Login::Form,
                "Sign in".to_owned(),
                "Application portal".to_owned(),
                "/Account/Login",
                "/Portal/",
                "UserName",
                "Password",
            ),
            _ => {
                let kind = persona
                    .pick("site", &["Customer portal", "Staff portal", "Service desk", "Order desk", "Partner access"]);
                let kind = kind.copied().unwrap_or("Portal");
                (
                    Login::Form,
                    kind.to_owned(),
                    format!("{kind} ({short})"),
                    "/login.php",
                    "/dashboard.php",
                    "username",
                    "password",
                )
            }
        };
        let login = if options.get("login").is_some_and(|login| login == "basic") { Login::Basic } else { login };
        let colour = persona.secret("site colour");
        let colour = format!("#{}", hex::encode(colour.get(..3).unwrap_or_default()));
        let since = i64::try_from(persona.number("site changed", 300 * 86_400)).unwrap_or(0);
        // To the second: what files and headers say is the same.
        let changed = DateTime::from_timestamp(persona.booted_at.timestamp() - since, 0).unwrap_or(persona.booted_at);
        let rows = (0..6 + persona.number("site rows", 8))
            .map(|n| {
                let label = |part: &str| format!("site row {n} {part}");
                let name =
                    persona.pick(&label("name"), &["Invoice", "Order", "Contract", "Delivery", "Ticket", "Quote"]);
                let number = 10_000 + persona.number(&label("number"), 80_000);
                let state = persona.pick(&label("state"), &["open", "closed", "waiting", "paid", "in review"]);
                let day = changed - TimeDelta::days(i64::try_from(persona.number(&label("day"), 90)).unwrap_or(0));
                format!(
                    "<tr><td>{} {number}</td><td>{}</td><td>{}</td></tr>",
                    name.copied().unwrap_or_default(),
                    state.copied().unwrap_or_default(),
                    day.format("%Y-%m-%d")
                )
            })
            .collect();
        Ok(Site {
            build,
            credentials,
            login,
            title,
            heading,
            path,
            home,
            user_field,
            password_field,
            cookie: if script { "PHPSESSID" } else { "ASP.NET_SessionId" },
            colour,
            changed,
            secret: persona.secret("site sessions"),
            icon: icon(persona),
            rows,
            plain: build == Build::Iis && matches!(persona.os, Os::WindowsServer2019 | Os::Windows10),
        })
    }

    /// The answer to a request.
    pub(crate) fn answer(&self, request: &Request, session: &Session, how: &How, tls: bool) -> Page {
        let method = request.method.as_str();
        let Some(path) = request.path() else {
            return self.build.own(400, method, how);
        };
        if let Some(page) = self.refused(method, &path, how) {
            return page;
        }
        let mut known = self.known(request, session);
        if let Some((user, password)) = basic(request) {
            known = self.tried(session, &user, &password, "basic") || known;
        }
        if self.login == Login::Basic && !known {
            let mut page = self.build.own(401, method, how);
            page.extra.insert(0, ("WWW-Authenticate", format!("Basic realm=\"{}\"", self.title)));
            return page;
        }
        match path.as_str() {
            "/robots.txt" => self.file(
                "text/plain",
                b"User-agent: *\nDisallow: /admin/\nDisallow: /backup/\nDisallow: /old/\n".to_vec(),
            ),
            "/favicon.ico" => {
                let kind =
                    if matches!(self.build, Build::Apache(..)) { "image/vnd.microsoft.icon" } else { "image/x-icon" };
                self.file(kind, self.icon.clone())
            }
            "/style.css" => self.file("text/css", self.style().into_bytes()),
            "/" | "/index.html" | "/index.php" if self.login == Login::Form => self.front(&path),
            "/" | "/index.html" => self.script(200, self.device()),
            "/admin" | "/backup" | "/old" => {
                let scheme = if tls { "https" } else { "http" };
                let usual = how.port == 80 && !tls || how.port == 443 && tls;
                let port = if usual { String::new() } else { format!(":{}", how.port) };
                self.build.moved(format!("{scheme}://{}{port}{path}/", how.host), how)
            }
            "/backup/" | "/old/" => self.build.own(403, method, how),
            "/admin/" if !known => self.led(self.path, session, false),
            "/logout" | "/logout.php" => self.led("/", session, false),
            path if path == self.path && self.login == Login::Form => {
                if method == "POST" {
                    self.logged_in(request, session)
                } else {
                    self.form(session, "")
                }
            }
            path if path == self.home || path == "/admin/" => {
                if known {
                    self.script(200, self.inside())
                } else {
                    self.led(self.path, session, false)
                }
            }
            _ => {
                // Logins of other software are tried here as well: what they bring is told.
                if method == "POST"
                    && let Some((user, password)) = form_credentials(request)
                {
                    self.told(session, &user, &password, "form", false);
                }
                self.build.own(404, method, how)
            }
        }
    }

    /// Methods that the server does not have, and those that it answers itself.
    fn refused(&self, method: &str, path: &str, how: &How) -> Option<Page> {
        let program = path.ends_with(".php") || path == self.path || path == self.home;
        match (method, self.build) {
            ("GET" | "HEAD", _) => {
                let hidden = path.rsplit('/').next().is_some_and(|name| name.starts_with(".ht"));
                (hidden && matches!(self.build, Build::Apache(..))).then(|| self.build.own(403, method, how))
            }
            ("POST", Build::Nginx(_) | Build::Iis) if !program && self.exists(path) => {
                Some(self.build.own(405, method, how))
            }
            ("POST", _) => None,
            ("OPTIONS", Build::Apache(..) | Build::Lighttpd(_)) => {
                let mut page = self.script(200, String::new());
                page.kind = Kind::Own;
                page.content_type = "text/html";
                page.extra = vec![("Allow", "OPTIONS,HEAD,GET,POST".to_owned())];
                Some(page)
            }
            ("OPTIONS", Build::Iis) => {
                let mut page = self.build.own(200, method, how);
                page.body.clear();
                page.extra = vec![
                    ("Allow", "OPTIONS, TRACE, GET, HEAD, POST".to_owned()),
                    ("Public", "OPTIONS, TRACE, GET, HEAD, POST".to_owned()),
                ];
                Some(page)
            }
            ("CONNECT", Build::Nginx(_)) => Some(self.build.own(400, method, how)),
            ("PUT" | "DELETE" | "PATCH" | "TRACE" | "CONNECT" | "PROPFIND" | "MKCOL" | "MOVE" | "COPY" | "LOCK", _) => {
                Some(self.build.own(405, method, how))
            }
            (_, Build::Apache(..) | Build::Lighttpd(_)) => Some(self.build.own(501, method, how)),
            (_, Build::Nginx(_) | Build::Iis) => Some(self.build.own(405, method, how)),
        }
    }

    fn exists(&self, path: &str) -> bool {
        matches!(path, "/" | "/index.html" | "/robots.txt" | "/favicon.ico" | "/style.css")
    }

    fn file(&self, content_type: &'static str, body: Vec<u8>) -> Page {
        Page { status: 200, kind: Kind::File(self.changed), content_type, body, location: None, extra: Vec::new() }
    }

    fn script(&self, status: u16, html: String) -> Page {
        let content_type =
            if self.build == Build::Iis { "text/html; charset=utf-8" } else { "text/html; charset=UTF-8" };
        Page { status, kind: Kind::Script, content_type, body: html.into_bytes(), location: None, extra: Vec::new() }
    }

    /// A page that leads elsewhere; with a session that is logged in, or with a new one that is not.
    fn led(&self, to: &str, session: &Session, known: bool) -> Page {
        let mut page = self.script(302, String::new());
        page.location = Some(to.to_owned());
        page.extra = self.cookies(session, known);
        page
    }

    fn cookies(&self, session: &Session, known: bool) -> Vec<(&'static str, String)> {
        let value = if known { self.ticket(session) } else { letters(&rand::random::<[u8; 26]>()) };
        let cookie = match self.build {
            Build::Iis => {
                format!("{}={}; path=/; HttpOnly; SameSite=Lax", self.cookie, value.get(..24).unwrap_or_default())
            }
            _ => format!("{}={value}; path=/", self.cookie),
        };
        if self.build == Build::Iis {
            return vec![("Cache-Control", "private".to_owned()), ("Set-Cookie", cookie)];
        }
        vec![
            ("Set-Cookie", cookie),
            ("Expires", "Thu, 19 Nov 1981 08:52:00 GMT".to_owned()),
            ("Cache-Control", "no-store, no-cache, must-revalidate".to_owned()),
            ("Pragma", "no-cache".to_owned()),
        ]
    }

    /// The session that this client has once it is logged in: no list of sessions is kept.
    fn ticket(&self, session: &Session) -> String {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.secret);
        letters(ring::hmac::sign(&key, session.peer().ip().to_canonical().to_string().as_bytes()).as_ref())
    }

    fn known(&self, request: &Request, session: &Session) -> bool {
        let Some(cookies) = request.field("cookie") else {
            return false;
        };
        let ticket = self.ticket(session);
        let ticket = if self.build == Build::Iis { ticket.get(..24).unwrap_or_default() } else { ticket.as_str() };
        cookies.split(';').any(|pair| pair.trim().split_once('=') == Some((self.cookie, ticket)))
    }

    fn tried(&self, session: &Session, user: &str, password: &str, method: &str) -> bool {
        let accepted = self.credentials.accepts(user, password);
        self.told(session, user, password, method, accepted);
        accepted
    }

    fn told(&self, session: &Session, user: &str, password: &str, method: &str, accepted: bool) {
        let (event, word) =
            if accepted { (EventType::AuthSuccess, "succeeded") } else { (EventType::AuthFail, "failed") };
        session.emit(
            event,
            format!("web login of {user} {word}"),
            &[("username", user), ("password", password), ("method", method)],
        );
    }

    fn logged_in(&self, request: &Request, session: &Session) -> Page {
        let Some((user, password)) = form_credentials(request) else {
            return self.form(session, "Please enter your user name and your password.");
        };
        if self.tried(session, &user, &password, "form") {
            return self.led(self.home, session, true);
        }
        self.form(session, "The user name or the password is incorrect.")
    }

    fn style(&self) -> String {
        format!(
            "body{{font-family:Helvetica,Arial,sans-serif;margin:0;background:#f4f5f7;color:#222}}\nheader{{background:{0};color:#fff;padding:14px 24px;font-size:20px}}\nmain{{max-width:860px;margin:32px auto;background:#fff;padding:24px;border-radius:4px}}\ninput{{display:block;margin:6px 0 14px;padding:7px;width:260px}}\nbutton{{background:{0};color:#fff;border:0;padding:8px 22px}}\ntable{{border-collapse:collapse;width:100%}}\ntd,th{{border-bottom:1px solid #ddd;padding:6px;text-align:left}}\n.error{{color:#b00020}}\n",
            self.colour
        )
    }

    fn page(&self, content: &str) -> String {
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{}</title>\n<link rel=\"stylesheet\" href=\"/style.css\">\n<link rel=\"shortcut icon\" href=\"/favicon.ico\">\n</head>\n<body>\n<header>{}</header>\n<main>\n{content}</main>\n</body>\n</html>\n",
            escape(&self.title),
            escape(&self.heading)
        )
    }

    fn front(&self, path: &str) -> Page {
        if self.plain {
            if path == "/index.php" {
                return self.build.own(404, "GET", &How::default());
            }
            let html = "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\">\r\n<html xmlns=\"http://www.w3.org/1999/xhtml\">\r\n<head>\r\n<meta http-equiv=\"Content-Type\" content=\"text/html; charset=iso-8859-1\" />\r\n<title>IIS Windows Server</title>\r\n</head>\r\n<body style=\"margin:0;background:#0072C6\">\r\n<div id=\"container\"><a href=\"/Account/Login\"><img src=\"iisstart.png\" alt=\"IIS\" width=\"960\" height=\"600\" /></a></div>\r\n</body>\r\n</html>";
            return self.file("text/html", html.as_bytes().to_vec());
        }
        let content = format!(
            "<h1>{}</h1>\n<p>This service is for registered users.</p>\n<p><a href=\"{}\">Sign in</a></p>\n",
            escape(&self.title),
            self.path
        );
        self.file("text/html", self.page(&content).into_bytes())
    }

    fn form(&self, session: &Session, error: &str) -> Page {
        let error = if error.is_empty() { String::new() } else { format!("<p class=\"error\">{error}</p>\n") };
        let content = format!(
            "<h1>Sign in</h1>\n{error}<form method=\"post\" action=\"{}\">\n<label>User name<input type=\"text\" name=\"{}\" autofocus></label>\n<label>Password<input type=\"password\" name=\"{}\"></label>\n<button type=\"submit\">Sign in</button>\n</form>\n",
            self.path, self.user_field, self.password_field
        );
        let mut page = self.script(200, self.page(&content));
        page.extra = self.cookies(session, false);
        page
    }

    fn inside(&self) -> String {
        let content = format!(
            "<p style=\"float:right\"><a href=\"/logout.php\">Sign out</a></p>\n<h1>Overview</h1>\n<table>\n<tr><th>Item</th><th>State</th><th>Changed</th></tr>\n{}\n</table>\n",
            self.rows.join("\n")
        );
        self.page(&content)
    }

    fn device(&self) -> String {
        let content = format!(
            "<h1>{}</h1>\n<table>\n<tr><th>Firmware</th><td>V5.{}.{} build {}</td></tr>\n<tr><th>Running since</th><td>{}</td></tr>\n</table>\n<p><a href=\"/network.htm\">Network</a> <a href=\"/users.htm\">Users</a> <a href=\"/system.htm\">System</a></p>\n",
            escape(&self.heading),
            self.secret.first().map_or(0, |byte| byte % 7),
            self.secret.get(1).map_or(0, |byte| byte % 30),
            self.changed.format("%y%m%d"),
            self.changed.format("%Y-%m-%d")
        );
        self.page(&content)
    }
}

/// 26 signs as PHP's session ids have them.
fn letters(bytes: &[u8]) -> String {
    let signs = b"0123456789abcdefghijklmnopqrstuv";
    bytes.iter().take(26).filter_map(|byte| signs.get(usize::from(byte % 32))).map(|sign| char::from(*sign)).collect()
}

/// What HTTP's basic authentication says.
pub(crate) fn basic(request: &Request) -> Option<(String, String)> {
    let (scheme, value) = request.field("authorization")?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, value.trim()).ok()?;
    let plain = crate::session::escaped(&plain, 1024);
    let (user, password) = plain.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn form_credentials(request: &Request) -> Option<(String, String)> {
    let json = request.field("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    let pairs: Vec<(String, String)> = if json {
        let parsed: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(request.body.get(..request.body.len().min(16_384))?).ok()?;
        parsed.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect()
    } else {
        Request::form(request.body.get(..request.body.len().min(16_384))?)
    };
    let find = |names: &[&str]| {
        names.iter().find_map(|name| {
            let found = pairs.iter().find(|(key, _)| key.to_ascii_lowercase() == *name);
            found.map(|(_, value)| value.clone())
        })
    };
    Some((find(&USER_FIELDS)?, find(&PASSWORD_FIELDS)?))
}

/// An icon of 16 × 16 that is the decky's own: mirrored, of two colours.
fn icon(persona: &Persona) -> Vec<u8> {
    let bits = persona.secret("icon");
    let mut ico = vec![0, 0, 1, 0, 1, 0, 16, 16, 0, 0, 1, 0, 32, 0];
    ico.extend_from_slice(&(40u32 + 1024 + 64).to_le_bytes());
    ico.extend_from_slice(&22u32.to_le_bytes());
    ico.extend_from_slice(&40u32.to_le_bytes());
    ico.extend_from_slice(&16i32.to_le_bytes());
    ico.extend_from_slice(&32i32.to_le_bytes());
    ico.extend_from_slice(&[1, 0, 32, 0]);
    ico.extend_from_slice(&[0; 24]);
    let colour = [bits.get(29), bits.get(30), bits.get(31)].map(|byte| byte.copied().unwrap_or_default());
    for row in 0..16usize {
        for column in 0..16usize {
            let at = (row / 2) * 4 + (column.min(15 - column)) / 2;
            let on = bits.get(at % 29).is_some_and(|byte| byte & 1 == 1);
            ico.extend_from_slice(&colour);
            ico.push(if on { 255 } else { 0 });
        }
    }
    ico.extend_from_slice(&[0; 64]);
    ico
}
