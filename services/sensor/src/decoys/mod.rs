//! The services that a decky can have.

mod ber;
mod common_passwords;
pub mod credentials;
mod docker_api;
mod elasticsearch;
mod ftp;
#[doc(hidden)]
pub mod fuzz;
mod http;
mod https;
mod ldap;
mod lines;
mod mongodb;
mod mqtt;
mod mysql;
mod postgres;
mod redis;
mod scram;
mod smtp;
mod snmp;
mod sql;
pub mod ssh;
mod telnet;
pub(crate) mod tls;
mod vnc;
mod wire;

use std::{collections::BTreeMap, sync::Arc};

use crate::{persona::Persona, protocol::Server};

/// Options of one service, from `[decky.service]`.
pub type Options = BTreeMap<String, String>;

/// The names of all services, as in a deployment.
pub const NAMES: [&str; 16] = [
    "ssh",
    "telnet",
    "ftp",
    "http",
    "https",
    "smtp",
    "mysql",
    "postgres",
    "redis",
    "mongodb",
    "ldap",
    "mqtt",
    "vnc",
    "snmp",
    "docker_api",
    "elasticsearch",
];

/// The program that serves the web on this decky: nginx, apache, iis or lighttpd.
pub(crate) fn web_program(persona: &Persona, options: &Options) -> &'static str {
    use http::build::Build;
    match Build::of(persona, options) {
        Ok(Build::Nginx(_)) | Err(_) => "nginx",
        Ok(Build::Apache(..)) => "apache",
        Ok(Build::Iis) => "iis",
        Ok(Build::Lighttpd(_)) => "lighttpd",
    }
}

/// The program that takes mail on this decky: master (Postfix), exim4 or exchange.
pub(crate) fn smtp_program(persona: &Persona, options: &Options) -> &'static str {
    use smtp::build::Build;
    match Build::of(persona, options) {
        Ok(Build::Postfix(_)) | Err(_) => "master",
        Ok(Build::Exim(_)) => "exim4",
        Ok(Build::Exchange) => "exchange",
    }
}

/// The FTP server of this decky: vsftpd, proftpd, or another of a system without such processes.
pub(crate) fn ftp_program(persona: &Persona) -> &'static str {
    use ftp::build::Build;
    match Build::of(persona) {
        Build::Vsftpd(_) => "vsftpd",
        Build::ProFtpd(..) => "proftpd",
        Build::FileZilla | Build::Iis | Build::BusyBox => "ftpd",
    }
}

/// A service by its name, as this decky has it; or why it cannot be had.
pub fn server(name: &str, persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    match name {
        // One line a service.
        "ssh" => ssh::server(persona, options),
        "telnet" => telnet::server(persona, options),
        "ftp" => ftp::server(persona, options),
        "http" => http::server(persona, options),
        "https" => https::server(persona, options),
        "smtp" => smtp::server(persona, options),
        "ldap" => ldap::server(persona, options),
        "mongodb" => mongodb::server(persona, options),
        "mqtt" => mqtt::server(persona, options),
        "mysql" => mysql::server(persona, options),
        "postgres" => postgres::server(persona, options),
        "redis" => redis::server(persona, options),
        "docker_api" => docker_api::server(persona, options),
        "elasticsearch" => elasticsearch::server(persona, options),
        "snmp" => snmp::server(persona, options),
        "vnc" => vnc::server(persona, options),
        _ => Err(format!("there is no service {name}")),
    }
}
