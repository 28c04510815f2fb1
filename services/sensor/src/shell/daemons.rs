//! The daemons behind the services of a machine, as its process list, its sockets and its accounts show them.

use super::{Family, Machine};
use crate::{
    decoys,
    persona::{Os, Persona},
};

/// An account that came with a daemon: uid, name, home.
pub(super) type Owner = (u32, &'static str, &'static str);

const ROOT: Owner = (0, "root", "/root");

/// A daemon that offers a service.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    /// Its ports, usual ones.
    pub ports: Vec<u16>,
    /// Over UDP, else TCP.
    pub udp: bool,
    /// As the lists of sockets call it.
    pub program: &'static str,
    /// Whose, and the command line; the first is the parent of the others.
    pub processes: Vec<(Owner, String)>,
}

/// What the machine offers, in the order of the ports.
pub(super) fn of(machine: &Machine) -> Vec<Daemon> {
    let persona = machine.persona();
    let mut all: Vec<Daemon> = Vec::new();
    let mut services = persona.services.all();
    if services.is_empty() {
        // Nobody said what it offers, and somebody is in.
        services.insert("ssh".to_owned(), decoys::Options::new());
    }
    for (service, options) in services {
        let Some(daemon) = daemon(persona, machine.facts().family, &service, &options) else { continue };
        match all.iter_mut().find(|known| known.program == daemon.program) {
            // http and https are one server.
            Some(known) => known.ports.extend(daemon.ports),
            None => all.push(daemon),
        }
    }
    for daemon in &mut all {
        daemon.ports.sort_unstable();
    }
    all.sort_by_key(|daemon| daemon.ports.first().copied());
    all
}

/// Accounts that the daemons brought.
pub(super) fn owners(machine: &Machine) -> Vec<Owner> {
    let mut owners: Vec<Owner> =
        of(machine).iter().flat_map(|daemon| &daemon.processes).map(|(owner, _)| *owner).collect();
    owners.sort_unstable();
    owners.dedup();
    owners
}

fn daemon(persona: &Persona, family: Family, service: &str, options: &decoys::Options) -> Option<Daemon> {
    let one = |port: u16, program: &'static str, owner: Owner, command: &str| {
        Some(Daemon { ports: vec![port], udp: false, program, processes: vec![(owner, at_home(family, command))] })
    };
    let red_hat = family == Family::RedHat;
    let device = family == Family::BusyBox;
    match service {
        // Its processes are of the system, listed with it.
        "ssh" => Some(Daemon { ports: vec![22], udp: false, program: "sshd", processes: Vec::new() }),
        "telnet" if device => Some(Daemon { ports: vec![23], udp: false, program: "telnetd", processes: Vec::new() }),
        "telnet" if red_hat => one(23, "systemd", ROOT, "/usr/sbin/in.telnetd"),
        "telnet" => one(23, "inetd", ROOT, "/usr/sbin/inetd"),
        "http" => web(persona, family, options, 80),
        "https" => web(persona, family, options, 443),
        "ftp" => match decoys::ftp_program(persona) {
            "proftpd" => one(21, "proftpd", (110, "proftpd", "/run/proftpd"), "proftpd: (accepting connections)"),
            "vsftpd" if red_hat => one(21, "vsftpd", ROOT, "/usr/sbin/vsftpd /etc/vsftpd/vsftpd.conf"),
            "vsftpd" => one(21, "vsftpd", ROOT, "/usr/sbin/vsftpd /etc/vsftpd.conf"),
            _ => one(21, "tcpsvd", ROOT, "/usr/bin/tcpsvd -vE 0.0.0.0 21 ftpd /"),
        },
        "smtp" => match decoys::smtp_program(persona, options) {
            "exim4" => one(25, "exim4", (105, "Debian-exim", "/var/spool/exim4"), "/usr/sbin/exim4 -bd -q30m"),
            _ => {
                let (owner, place) = if red_hat {
                    ((89, "postfix", "/var/spool/postfix"), "/usr/libexec/postfix/master -w")
                } else {
                    ((111, "postfix", "/var/spool/postfix"), "/usr/lib/postfix/sbin/master -w")
                };
                let mut daemon = one(25, "master", ROOT, place)?;
                daemon.processes.push((owner, "pickup -l -t unix -u -c".to_owned()));
                daemon.processes.push((owner, "qmgr -l -t unix -u".to_owned()));
                Some(daemon)
            }
        },
        "mysql" => {
            let owner = if red_hat { (27, "mysql", "/var/lib/mysql") } else { (109, "mysql", "/nonexistent") };
            match persona.os {
                Os::Debian12 | Os::Debian11 => one(3306, "mariadbd", owner, "/usr/sbin/mariadbd"),
                Os::Rocky9 => one(3306, "mysqld", owner, "/usr/libexec/mysqld --basedir=/usr"),
                Os::CentOs7 => {
                    one(3306, "mysqld", owner, "/usr/libexec/mysqld --basedir=/usr --datadir=/var/lib/mysql")
                }
                _ => one(3306, "mysqld", owner, "/usr/sbin/mysqld"),
            }
        }
        "postgres" => postgres(persona, family),
        "redis" => {
            let owner = if red_hat { (994, "redis", "/var/lib/redis") } else { (112, "redis", "/var/lib/redis") };
            one(6379, "redis-server", owner, "/usr/bin/redis-server 0.0.0.0:6379")
        }
        "mongodb" => {
            let owner = if red_hat { (993, "mongod", "/var/lib/mongo") } else { (113, "mongodb", "/home/mongodb") };
            one(27017, "mongod", owner, "/usr/bin/mongod --config /etc/mongod.conf")
        }
        "ldap" if red_hat => {
            one(389, "slapd", (55, "ldap", "/var/lib/ldap"), "/usr/sbin/slapd -u ldap -h ldap:/// ldaps:/// ldapi:///")
        }
        "ldap" => one(
            389,
            "slapd",
            (114, "openldap", "/var/lib/ldap"),
            "/usr/sbin/slapd -h ldap:/// ldapi:/// -g openldap -u openldap -F /etc/ldap/slapd.d",
        ),
        "mqtt" => {
            let owner =
                if red_hat { (992, "mosquitto", "/etc/mosquitto") } else { (115, "mosquitto", "/var/lib/mosquitto") };
            one(1883, "mosquitto", owner, "/usr/sbin/mosquitto -c /etc/mosquitto/mosquitto.conf")
        }
        "vnc" => one(5900, "Xvnc", ROOT, "/usr/bin/Xvnc :0 -rfbport 5900 -desktop console -SecurityTypes VncAuth"),
        "snmp" => {
            let daemon = if family == Family::Debian {
                let owner = (116, "Debian-snmp", "/var/lib/snmp");
                one(
                    161,
                    "snmpd",
                    owner,
                    "/usr/sbin/snmpd -LOw -u Debian-snmp -g Debian-snmp -I -smux mteTrigger mteTriggerConf -f",
                )
            } else {
                one(161, "snmpd", ROOT, "/usr/sbin/snmpd -LS0-6d -f")
            };
            Some(Daemon { udp: true, ..daemon? })
        }
        "docker_api" => {
            let mut daemon =
                one(2375, "dockerd", ROOT, "/usr/bin/dockerd -H tcp://0.0.0.0:2375 -H unix:///run/docker.sock")?;
            daemon
                .processes
                .push((ROOT, "/usr/bin/containerd --config /run/docker/containerd/containerd.toml".to_owned()));
            Some(daemon)
        }
        "elasticsearch" => one(
            9200,
            "java",
            (117, "elasticsearch", "/nonexistent"),
            "/usr/share/elasticsearch/jdk/bin/java -Xms1g -Xmx1g -XX:+UseG1GC -Des.path.home=/usr/share/elasticsearch \
             -Des.path.conf=/etc/elasticsearch -cp /usr/share/elasticsearch/lib/* \
             org.elasticsearch.bootstrap.Elasticsearch -p /var/run/elasticsearch/elasticsearch.pid --quiet",
        ),
        _ => None,
    }
}

/// Where FreeBSD's ports put what Linux has with the system.
fn at_home(family: Family, command: &str) -> String {
    match (family, command.strip_prefix("/usr/sbin/").or_else(|| command.strip_prefix("/usr/bin/"))) {
        (Family::Bsd, Some(rest)) if !rest.starts_with("inetd") => format!("/usr/local/sbin/{rest}"),
        _ => command.to_owned(),
    }
}

fn web(persona: &Persona, family: Family, options: &decoys::Options, port: u16) -> Option<Daemon> {
    let (nginx, apache): (Owner, Owner) = match family {
        Family::RedHat => ((991, "nginx", "/var/lib/nginx"), (48, "apache", "/usr/share/httpd")),
        Family::Bsd => ((80, "www", "/nonexistent"), (80, "www", "/nonexistent")),
        _ => ((33, "www-data", "/var/www"), (33, "www-data", "/var/www")),
    };
    let (program, processes) = match (decoys::web_program(persona, options), family) {
        ("nginx", _) => {
            let master = match family {
                Family::RedHat => "nginx: master process /usr/sbin/nginx",
                Family::Bsd => "nginx: master process /usr/local/sbin/nginx",
                _ => "nginx: master process /usr/sbin/nginx -g daemon on; master_process on;",
            };
            ("nginx", vec![(ROOT, master.to_owned()), (nginx, "nginx: worker process".to_owned())])
        }
        ("apache", Family::Debian) => {
            let command = "/usr/sbin/apache2 -k start".to_owned();
            ("apache2", vec![(ROOT, command.clone()), (apache, command)])
        }
        ("apache", _) => {
            let command = if family == Family::Bsd { "/usr/local/sbin/httpd" } else { "/usr/sbin/httpd -DFOREGROUND" };
            ("httpd", vec![(ROOT, command.to_owned()), (apache, command.to_owned())])
        }
        _ => ("lighttpd", vec![(apache, "/usr/sbin/lighttpd -D -f /etc/lighttpd/lighttpd.conf".to_owned())]),
    };
    Some(Daemon { ports: vec![port], udp: false, program, processes })
}

fn postgres(persona: &Persona, family: Family) -> Option<Daemon> {
    let version = match persona.os {
        Os::Debian12 => "15",
        Os::Ubuntu2204 => "14",
        Os::Ubuntu2004 => "12",
        _ => "13",
    };
    let (owner, program, command, title): (Owner, _, _, _) = match family {
        Family::Debian => (
            (118, "postgres", "/var/lib/postgresql"),
            "postgres",
            format!(
                "/usr/lib/postgresql/{version}/bin/postgres -D /var/lib/postgresql/{version}/main \
                 -c config_file=/etc/postgresql/{version}/main/postgresql.conf"
            ),
            format!("{version}/main: "),
        ),
        Family::RedHat if persona.os == Os::CentOs7 => (
            (26, "postgres", "/var/lib/pgsql"),
            "postgres",
            "/usr/bin/postgres -D /var/lib/pgsql/data -p 5432".to_owned(),
            String::new(),
        ),
        Family::RedHat => (
            (26, "postgres", "/var/lib/pgsql"),
            "postmaster",
            "/usr/bin/postmaster -D /var/lib/pgsql/data".to_owned(),
            String::new(),
        ),
        _ => (
            (770, "postgres", "/var/db/postgres"),
            "postgres",
            "/usr/local/bin/postgres -D /var/db/postgres/data13".to_owned(),
            String::new(),
        ),
    };
    let mut processes = vec![(owner, command)];
    for worker in
        ["checkpointer", "background writer", "walwriter", "autovacuum launcher", "logical replication launcher"]
    {
        processes.push((owner, format!("postgres: {title}{worker} ")));
    }
    Some(Daemon { ports: vec![5432], udp: false, program, processes })
}
