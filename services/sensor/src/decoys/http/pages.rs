//! The pages that web servers make themselves: errors, redirects, and what they say to what is no request.

use chrono::Utc;

use super::{
    build::{Answer, Build, How, Kind, Page, date},
    wire::{Problem, escape},
};

impl Build {
    pub(super) fn reason(self, status: u16) -> &'static str {
        match (status, self) {
            (200, _) => "OK",
            (206, _) => "Partial Content",
            (301, _) => "Moved Permanently",
            (302, Build::Iis) => "Redirect",
            (302, _) => "Found",
            (304, _) => "Not Modified",
            (401, _) => "Unauthorized",
            (403, _) => "Forbidden",
            (404, _) => "Not Found",
            (405, Build::Nginx(_)) => "Not Allowed",
            (405, _) => "Method Not Allowed",
            (411, _) => "Length Required",
            (413, Build::Lighttpd(_)) => "Payload Too Large",
            (413, _) => "Request Entity Too Large",
            (414, Build::Nginx(_)) => "Request-URI Too Large",
            (414, _) => "Request-URI Too Long",
            (501, _) => "Not Implemented",
            (505, _) => "HTTP Version Not Supported",
            _ => "Bad Request",
        }
    }

    /// The server's own page for a status.
    pub(crate) fn own(self, status: u16, method: &str, how: &How) -> Page {
        let mut page = Page {
            status,
            kind: Kind::Own,
            content_type: "text/html",
            body: Vec::new(),
            location: None,
            extra: Vec::new(),
        };
        match self {
            Build::Nginx(_) => page.body = self.nginx_page(status, None),
            Build::Apache(..) => {
                page.content_type = "text/html; charset=iso-8859-1";
                let text = match status {
                    401 => "<p>This server could not verify that you\nare authorized to access the document\nrequested.  Either you supplied the wrong\ncredentials (e.g., bad password), or your\nbrowser doesn't understand how to supply\nthe credentials required.</p>\n".to_owned(),
                    403 => "<p>You don't have permission to access this resource.</p>\n".to_owned(),
                    404 => "<p>The requested URL was not found on this server.</p>\n".to_owned(),
                    405 => format!("<p>The requested method {} is not allowed for this URL.</p>\n", escape(method)),
                    413 => "The requested resource does not allow request data with ".to_owned()
                        + &escape(method)
                        + " requests, or the amount of data provided in\nthe request exceeds the capacity limit.\n",
                    414 => "<p>The requested URL's length exceeds the capacity\nlimit for this server.<br />\n</p>\n".to_owned(),
                    501 => format!("<p>{} not supported for current URL.<br />\n</p>\n", escape(method)),
                    _ => "<p>Your browser sent a request that this server could not understand.<br />\n</p>\n".to_owned(),
                };
                page.body = self.apache_page(status, &text, how);
                if matches!(status, 405 | 501) {
                    let allow = if method == "TRACE" { "" } else { "OPTIONS,HEAD,GET,POST" };
                    page.extra.push(("Allow", allow.to_owned()));
                }
            }
            Build::Iis => {
                page.body = iis_page(status);
                if status == 405 {
                    page.extra.push(("Allow", "GET, HEAD, OPTIONS, TRACE".to_owned()));
                }
            }
            Build::Lighttpd(_) => {
                let title = format!("{status} {}", self.reason(status));
                page.body = format!(
                    "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n         \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n<html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n <head>\n  <title>{title}</title>\n </head>\n <body>\n  <h1>{title}</h1>\n </body>\n</html>\n"
                )
                .into_bytes();
            }
        }
        page
    }

    /// A redirect that the server itself makes.
    pub(crate) fn moved(self, to: String, how: &How) -> Page {
        let mut page = self.own(301, "GET", how);
        if let Build::Apache(..) = self {
            let text = format!("<p>The document has moved <a href=\"{}\">here</a>.</p>\n", escape(&to));
            page.body = self.apache_page(301, &text, how);
        }
        if self == Build::Iis {
            page.content_type = "text/html; charset=UTF-8";
            page.body = format!(
                "<head><title>Document Moved</title></head>\n<body><h1>Object Moved</h1>This document may be found <a HREF=\"{}\">here</a></body>",
                escape(&to)
            )
            .into_bytes();
        }
        page.location = Some(to);
        page
    }

    /// What it says to what is no proper request.
    pub(crate) fn problem(self, problem: Problem, method: &str, how: &How) -> Vec<u8> {
        let status = match (problem, self) {
            (Problem::LineTooLong, Build::Iis) | (Problem::Version, Build::Apache(..)) => 400,
            (Problem::LineTooLong, _) => 414,
            (Problem::Version, _) => 505,
            (Problem::Coding, Build::Nginx(_) | Build::Iis) => 501,
            (Problem::BodyTooLarge, _) => 413,
            _ => 400,
        };
        if self == Build::Iis && status != 413 {
            return http_sys(problem, status);
        }
        let mut page = self.own(status, method, how);
        match self {
            Build::Nginx(_) if problem == Problem::FieldTooLong => {
                page.body = self.nginx_page(400, Some("Request Header Or Cookie Too Large"));
            }
            Build::Apache(..) if problem == Problem::FieldTooLong => {
                let text = "<p>Your browser sent a request that this server could not understand.<br />\nSize of a request header field exceeds server limit.</p>\n";
                page.body = self.apache_page(400, text, how);
            }
            _ => {}
        }
        self.render(page, &How { keep: false, asked: false, ..how.clone() })
    }

    /// What nginx and Apache say to a request without TLS where TLS is spoken.
    pub(crate) fn plain(self, how: &How) -> Option<Vec<u8>> {
        let mut page = self.own(400, "GET", how);
        match self {
            Build::Nginx(_) => {
                page.body = self.nginx_page(400, Some("The plain HTTP request was sent to HTTPS port"));
            }
            Build::Apache(..) => {
                let text = "<p>Your browser sent a request that this server could not understand.<br />\nReason: You're speaking plain HTTP to an SSL-enabled server port.<br />\n Instead use the HTTPS scheme to access this URL, please.<br />\n</p>\n";
                page.body = self.apache_page(400, text, how);
            }
            Build::Iis | Build::Lighttpd(_) => return None,
        }
        Some(self.render(page, &How { keep: false, asked: false, ..how.clone() }))
    }

    fn nginx_page(self, status: u16, note: Option<&str>) -> Vec<u8> {
        let name = match self {
            Build::Nginx(name) => name,
            _ => "nginx",
        };
        let reason = if status == 401 { "Authorization Required" } else { self.reason(status) };
        let title = match note {
            Some(note) => format!("400 {note}"),
            None => format!("{status} {reason}"),
        };
        let note = note.map(|note| format!("<center>{note}</center>\r\n")).unwrap_or_default();
        format!(
            "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{status} {reason}</h1></center>\r\n{note}<hr><center>{name}</center>\r\n</body>\r\n</html>\r\n"
        )
        .into_bytes()
    }

    fn apache_page(self, status: u16, text: &str, how: &How) -> Vec<u8> {
        let name = match self {
            Build::Apache(name, _) => name,
            _ => "Apache",
        };
        let (host, port) = (escape(&how.host), how.port);
        let reason = self.reason(status);
        // CentOS and FreeBSD ship with ServerSignature off.
        let signature = if name.contains("Debian") || name.contains("Ubuntu") {
            format!("<hr>\n<address>{name} Server at {host} Port {port}</address>\n")
        } else {
            String::new()
        };
        format!(
            "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">\n<html><head>\n<title>{status} {reason}</title>\n</head><body>\n<h1>{reason}</h1>\n{text}{signature}</body></html>\n"
        )
        .into_bytes()
    }
}

/// What HTTP.sys says before IIS sees the request.
fn http_sys(problem: Problem, status: u16) -> Vec<u8> {
    let (title, heading, text) = match problem {
        Problem::Malformed | Problem::Verb => {
            ("Bad Request", "Bad Request - Invalid Verb", "HTTP Error 400. The request verb is invalid.")
        }
        Problem::Target => ("Bad Request", "Bad Request - Invalid URL", "HTTP Error 400. The request URL is invalid."),
        Problem::NoHost => {
            ("Bad Request", "Bad Request - Invalid Hostname", "HTTP Error 400. The request hostname is invalid.")
        }
        Problem::Version => {
            ("HTTP Version Not Supported", "Version Not Supported", "HTTP Error 505. HTTP Version not supported.")
        }
        Problem::LineTooLong | Problem::FieldTooLong => (
            "Bad Request",
            "Bad Request - Request Too Long",
            "HTTP Error 400. The size of the request headers is too long.",
        ),
        Problem::Length => (
            "Bad Request",
            "Bad Request - Invalid Content Length",
            "HTTP Error 400. There is an invalid content length or chunk length in the request.",
        ),
        Problem::Coding => ("Not Implemented", "Not Implemented", "HTTP Error 501. Not implemented."),
        Problem::Field | Problem::BodyTooLarge => {
            ("Bad Request", "Bad Request - Invalid Header", "HTTP Error 400. The request has an invalid header name.")
        }
    };
    let body = format!(
        "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\"\"http://www.w3.org/TR/html4/strict.dtd\">\r\n<HTML><HEAD><TITLE>{title}</TITLE>\r\n<META HTTP-EQUIV=\"Content-Type\" Content=\"text/html; charset=us-ascii\"></HEAD>\r\n<BODY><h2>{heading}</h2>\r\n<hr><p>{text}</p>\r\n</BODY></HTML>\r\n"
    );
    let mut out = Answer::new(status, title);
    out.field("Content-Type", "text/html; charset=us-ascii")
        .field("Server", "Microsoft-HTTPAPI/2.0")
        .field("Date", &date(Utc::now()))
        .field("Connection", "close")
        .field("Content-Length", &body.len().to_string());
    let mut bytes = out.end();
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

fn iis_page(status: u16) -> Vec<u8> {
    let (title, text) = match status {
        401 => (
            "401 - Unauthorized: Access is denied due to invalid credentials.",
            "You do not have permission to view this directory or page using the credentials that you supplied.",
        ),
        403 => (
            "403 - Forbidden: Access is denied.",
            "You do not have permission to view this directory or page using the credentials that you supplied.",
        ),
        405 => (
            "405 - HTTP verb used to access this page is not allowed.",
            "The page you are looking for cannot be displayed because an invalid method (HTTP verb) was used to attempt access.",
        ),
        413 => {
            ("413 - Request entity too large.", "The page was not displayed because the request entity is too large.")
        }
        _ => (
            "404 - File or directory not found.",
            "The resource you are looking for might have been removed, had its name changed, or is temporarily unavailable.",
        ),
    };
    format!(
        "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\">\r\n<html xmlns=\"http://www.w3.org/1999/xhtml\">\r\n<head>\r\n<meta http-equiv=\"Content-Type\" content=\"text/html; charset=iso-8859-1\"/>\r\n<title>{title}</title>\r\n<style type=\"text/css\">\r\n<!--\r\nbody{{margin:0;font-size:.7em;font-family:Verdana, Arial, Helvetica, sans-serif;background:#EEEEEE;}}\r\nfieldset{{padding:0 15px 10px 15px;}} \r\nh1{{font-size:2.4em;margin:0;color:#FFF;}}\r\nh2{{font-size:1.7em;margin:0;color:#CC0000;}} \r\nh3{{font-size:1.2em;margin:10px 0 0 0;color:#000000;}} \r\n#header{{width:96%;margin:0 0 0 0;padding:6px 2% 6px 2%;font-family:\"trebuchet MS\", Verdana, sans-serif;color:#FFF;\r\nbackground-color:#555555;}}\r\n#content{{margin:0 0 0 2%;position:relative;}}\r\n.content-container{{background:#FFF;width:96%;margin-top:8px;padding:10px;position:relative;}}\r\n-->\r\n</style>\r\n</head>\r\n<body>\r\n<div id=\"header\"><h1>Server Error</h1></div>\r\n<div id=\"content\">\r\n <div class=\"content-container\"><fieldset>\r\n  <h2>{title}</h2>\r\n  <h3>{text}</h3>\r\n </fieldset></div>\r\n</div>\r\n</body>\r\n</html>\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_as_long_as_the_real_ones() {
        // Lengths that the real servers answer, with a host of one letter and port 80.
        let how = How { host: "a".into(), port: 80, minor: 1, ..How::default() };
        let nginx = Build::Nginx("nginx/1.22.1");
        for (status, length) in
            [(404, 153), (405, 157), (401, 179), (414, 177), (505, 187), (501, 165), (413, 183), (301, 169)]
        {
            assert_eq!(nginx.own(status, "GET", &how).body.len(), length, "{status}");
        }
        assert_eq!(nginx.nginx_page(400, Some("Request Header Or Cookie Too Large")).len(), 233);
        assert_eq!(Build::Iis.own(404, "GET", &how).body.len(), 1245);
        for (problem, length) in [(Problem::Verb, 326), (Problem::Target, 324), (Problem::NoHost, 334)] {
            let answer = String::from_utf8(Build::Iis.problem(problem, "", &how)).unwrap();
            assert!(answer.contains(&format!("Content-Length: {length}\r\n")), "{answer}");
        }
    }
}
