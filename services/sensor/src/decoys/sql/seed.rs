//! What is in a decky's databases at first: the books of a small company, its own for each decky.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Catalog, Column, Database, Dialect, Kind, Table, Value};
use crate::persona::Persona;

const FIRST: [&str; 40] = [
    "James",
    "Mary",
    "Robert",
    "Patricia",
    "John",
    "Jennifer",
    "Michael",
    "Linda",
    "David",
    "Elizabeth",
    "William",
    "Barbara",
    "Richard",
    "Susan",
    "Joseph",
    "Jessica",
    "Thomas",
    "Karen",
    "Daniel",
    "Nancy",
    "Matthew",
    "Laura",
    "Anthony",
    "Sandra",
    "Mark",
    "Ashley",
    "Paul",
    "Emily",
    "Steven",
    "Donna",
    "Andrew",
    "Michelle",
    "Kevin",
    "Carol",
    "Brian",
    "Amanda",
    "Eric",
    "Melissa",
    "Peter",
    "Anna",
];
const LAST: [&str; 40] = [
    "Smith", "Johnson", "Brown", "Miller", "Davis", "Wilson", "Anderson", "Taylor", "Moore", "Martin", "Thompson",
    "White", "Clark", "Lewis", "Walker", "Hall", "Young", "King", "Wright", "Hill", "Green", "Baker", "Nelson",
    "Carter", "Mitchell", "Turner", "Phillips", "Parker", "Evans", "Edwards", "Collins", "Stewart", "Morris", "Rogers",
    "Reed", "Cook", "Bailey", "Cooper", "Hughes", "Weber",
];
const CITIES: [&str; 16] = [
    "Leeds",
    "Bristol",
    "Dublin",
    "Rotterdam",
    "Hamburg",
    "Lyon",
    "Porto",
    "Graz",
    "Malmo",
    "Aarhus",
    "Gdansk",
    "Turin",
    "Austin",
    "Denver",
    "Columbus",
    "Halifax",
];
const MAILS: [&str; 4] = ["gmail.com", "outlook.com", "yahoo.com", "icloud.com"];
const GOODS: [(&str, u64); 20] = [
    ("USB-C cable 2 m", 990),
    ("Wireless mouse", 2_490),
    ("Mechanical keyboard", 8_900),
    ("27\" monitor", 21_900),
    ("Laptop stand", 3_450),
    ("HDMI adapter", 1_490),
    ("Webcam 1080p", 4_990),
    ("Desk lamp", 2_990),
    ("Office chair", 17_900),
    ("Headset", 5_490),
    ("Docking station", 12_900),
    ("SSD 1 TB", 7_990),
    ("Power bank", 2_790),
    ("Ethernet switch 8 port", 3_990),
    ("Label printer", 9_490),
    ("Toner black", 6_290),
    ("Paper A4 (5 packs)", 2_190),
    ("Whiteboard", 4_590),
    ("Shredder", 8_490),
    ("Surge protector", 1_990),
];

/// Numbers that are the same at each start.
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    /// Of a decky, for one use.
    pub(crate) fn new(persona: &Persona, label: &str) -> Dice {
        Dice { state: persona.number(label, u64::MAX) }
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(end).unwrap_or(0)
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        let at = self.below(u64::try_from(among.len()).unwrap_or(0));
        among.get(usize::try_from(at).unwrap_or(0))
    }

    /// A person: first and last name.
    pub(crate) fn person(&mut self) -> (&'static str, &'static str) {
        (self.pick(&FIRST).copied().unwrap_or("Anna"), self.pick(&LAST).copied().unwrap_or("Smith"))
    }

    /// A number with so many digits, as a text.
    pub(crate) fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + u8::try_from(self.below(10)).unwrap_or(0))).collect()
    }

    /// Bytes as hexadecimal digits.
    pub(crate) fn hex(&mut self, bytes: usize) -> String {
        (0..bytes).map(|_| format!("{:02x}", self.below(256))).collect()
    }

    /// A time up to so many days before another, in hours when people work.
    pub(crate) fn before(&mut self, time: DateTime<Utc>, days: u64) -> DateTime<Utc> {
        let back = i64::try_from(self.below(days.max(1) * 86_400)).unwrap_or(0);
        time - TimeDelta::seconds(back)
    }
}

fn column(name: &str, declared: &str, dialect: Dialect) -> Column {
    let mut parts = declared.splitn(2, ' ');
    let written = parts.next().unwrap_or("");
    let flags = parts.next().unwrap_or("");
    let declared = match (dialect, written) {
        (Dialect::Postgres, "int") => "integer".to_owned(),
        (Dialect::Postgres, "datetime") => "timestamp without time zone".to_owned(),
        (Dialect::Postgres, other) => {
            other.replace("varchar", "character varying").replace("decimal", "numeric").replace("tinyint(1)", "boolean")
        }
        (Dialect::MySql, other) => other.to_owned(),
    };
    Column {
        name: name.to_owned(),
        kind: Kind::declared(&declared),
        declared,
        not_null: flags.contains("not null") || flags.contains("id"),
        key: if flags.contains("id") {
            "PRI"
        } else if flags.contains("unique") {
            "UNI"
        } else {
            ""
        },
        default: None,
        counts: flags.contains("id"),
    }
}

fn table(dialect: Dialect, columns: &[(&str, &str)], rows: Vec<Vec<Value>>) -> Table {
    let next = i64::try_from(rows.len()).unwrap_or(0) + 1;
    Table {
        oid: 0,
        columns: columns.iter().map(|(name, declared)| column(name, declared, dialect)).collect(),
        rows,
        next,
    }
}

fn cents(amount: u64) -> Value {
    Value::Text(format!("{}.{:02}", amount / 100, amount % 100))
}

fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(0))
}

/// The databases of a decky at first; those of the server itself are not among them.
pub(crate) fn seeded(persona: &Persona, dialect: Dialect) -> Catalog {
    let mut dice = Dice::new(persona, "database");
    let now = persona.booted_at;
    let shown = |time: DateTime<Utc>| Value::Text(time.format("%Y-%m-%d %H:%M:%S").to_string());
    let domain = format!(
        "{}.{}",
        dice.pick(&LAST).unwrap_or(&"smith").to_lowercase(),
        dice.pick(&["com", "net", "io"]).unwrap_or(&"com")
    );
    let mut tables = BTreeMap::new();

    let mut rows = Vec::new();
    for (at, role) in
        ["admin", "manager", "sales", "sales", "support", "warehouse", "accounting", "readonly"].iter().enumerate()
    {
        let (first, last) = dice.person();
        let name =
            if at == 0 { "admin".to_owned() } else { format!("{}.{}", first.to_lowercase(), last.to_lowercase()) };
        let salt: String = dice.hex(11);
        rows.push(vec![
            (at + 1).into(),
            name.clone().into(),
            format!("{name}@{domain}").into(),
            format!("$2y$10${salt}{}", dice.hex(15).chars().take(31).collect::<String>()).into(),
            (*role).into(),
            shown(dice.before(now, 20)),
            shown(dice.before(now, 900)),
        ]);
    }
    tables.insert(
        "users",
        table(
            dialect,
            &[
                ("id", "int id"),
                ("username", "varchar(64) not null unique"),
                ("email", "varchar(255) not null"),
                ("password_hash", "varchar(255) not null"),
                ("role", "varchar(32) not null"),
                ("last_login", "datetime"),
                ("created_at", "datetime not null"),
            ],
            rows,
        ),
    );

    let customers = 60 + dice.below(80);
    let mut rows = Vec::new();
    for id in 1..=customers {
        let (first, last) = dice.person();
        let mail = dice.pick(&MAILS).unwrap_or(&"gmail.com");
        rows.push(vec![
            int(id),
            first.into(),
            last.into(),
            format!("{}.{}{}@{mail}", first.to_lowercase(), last.to_lowercase(), dice.below(90) + 10).into(),
            format!("+44 7{} {}", dice.digits(3), dice.digits(6)).into(),
            (*dice.pick(&CITIES).unwrap_or(&"Leeds")).into(),
            shown(dice.before(now, 800)),
        ]);
    }
    tables.insert(
        "customers",
        table(
            dialect,
            &[
                ("id", "int id"),
                ("first_name", "varchar(64) not null"),
                ("last_name", "varchar(64) not null"),
                ("email", "varchar(255) not null"),
                ("phone", "varchar(32)"),
                ("city", "varchar(64)"),
                ("created_at", "datetime not null"),
            ],
            rows,
        ),
    );

    let mut rows = Vec::new();
    for (at, (name, price)) in GOODS.iter().enumerate() {
        rows.push(vec![
            (at + 1).into(),
            format!("{}-{}", dice.pick(&["AC", "OF", "EL"]).unwrap_or(&"AC"), dice.digits(5)).into(),
            (*name).into(),
            cents(price + dice.below(8) * 50),
            int(dice.below(240)),
        ]);
    }
    tables.insert(
        "products",
        table(
            dialect,
            &[
                ("id", "int id"),
                ("sku", "varchar(16) not null unique"),
                ("name", "varchar(255) not null"),
                ("price", "decimal(10,2) not null"),
                ("stock", "int not null"),
            ],
            rows,
        ),
    );

    let mut rows = Vec::new();
    for id in 1..=150 + dice.below(150) {
        let product = dice.below(20);
        let quantity = 1 + dice.below(4);
        let price = GOODS.get(usize::try_from(product).unwrap_or(0)).map_or(990, |(_, price)| *price);
        rows.push(vec![
            int(id),
            int(1 + dice.below(customers)),
            int(product + 1),
            int(quantity),
            cents(price * quantity),
            (*dice.pick(&["paid", "shipped", "shipped", "shipped", "pending", "cancelled"]).unwrap_or(&"paid")).into(),
            shown(dice.before(now, 365)),
        ]);
    }
    tables.insert(
        "orders",
        table(
            dialect,
            &[
                ("id", "int id"),
                ("customer_id", "int not null"),
                ("product_id", "int not null"),
                ("quantity", "int not null"),
                ("total", "decimal(10,2) not null"),
                ("status", "varchar(16) not null"),
                ("ordered_at", "datetime not null"),
            ],
            rows,
        ),
    );

    let names = ["shop", "crm", "webshop", "erp", "inventory", "sales", "store", "backoffice"];
    let name = *dice.pick(&names).unwrap_or(&"shop");
    let mut oid = 16_384 + i64::try_from(dice.below(40)).unwrap_or(0);
    let database_oid = oid;
    let schema = if dialect == Dialect::MySql { "" } else { "public" };
    let tables: BTreeMap<String, Arc<Table>> = tables
        .into_iter()
        .map(|(name, mut table)| {
            oid += 8;
            table.oid = oid;
            (name.to_owned(), Arc::new(table))
        })
        .collect();
    let of = |oid, tables| Database { oid, schemas: BTreeMap::from([(schema.to_owned(), tables)]) };
    let mut databases = BTreeMap::from([(name.to_owned(), of(database_oid, tables))]);
    if dialect == Dialect::Postgres {
        databases.insert("postgres".to_owned(), of(5, BTreeMap::new()));
        databases.insert("template1".to_owned(), of(1, BTreeMap::new()));
        databases.insert("template0".to_owned(), of(4, BTreeMap::new()));
    }
    Catalog::new(databases, oid)
}
