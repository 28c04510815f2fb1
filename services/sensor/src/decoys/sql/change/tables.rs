//! Statements that make, change and remove tables and databases.

use super::*;

impl Runner<'_> {
    pub(super) fn create(
        &self,
        catalog: &mut Catalog,
        create: &CreateTable,
        touch: &mut dyn FnMut(&str, &str),
    ) -> Outcome {
        let (database, schema, name) = self.place(&create.name)?;
        if !catalog.databases.contains_key(&database) {
            return Err(Fault::NoDatabase(database));
        }
        if catalog.table(&database, &schema, &name).is_some() {
            if create.if_not_exists {
                return Ok(Done { tag: "CREATE TABLE".to_owned(), ..Done::default() });
            }
            return Err(Fault::TableExists(name));
        }
        let mut table = match &create.query {
            Some(query) => {
                let rows = select::query(&self.context(catalog), query, &NOTHING)?;
                self.made_of(rows)
            }
            None => Table { next: 1, ..Table::default() },
        };
        let context = self.context(catalog);
        for definition in &create.columns {
            let column = self.column(&context, definition)?;
            if table.at(&column.name).is_some() {
                return Err(Fault::ColumnExists { column: column.name, table: name });
            }
            table.columns.push(column);
        }
        for constraint in &create.constraints {
            let (columns, key) = match constraint {
                TableConstraint::PrimaryKey(key) => (&key.columns, "PRI"),
                TableConstraint::Unique(key) => (&key.columns, "UNI"),
                _ => continue,
            };
            for column in columns {
                let named = column.column.expr.to_string();
                let at = table.at(named.trim_matches(['`', '"']));
                if let Some(column) = at.and_then(|at| table.columns.get_mut(at)) {
                    column.key = key;
                    column.not_null |= key == "PRI";
                }
            }
        }
        drop(context);
        let affected = table.rows.len();
        touch(&schema, &name);
        catalog.create_table(&database, &schema, &name, table)?;
        let tag = if create.query.is_some() { format!("SELECT {affected}") } else { "CREATE TABLE".to_owned() };
        Ok(Done { tag, affected, ..Done::default() })
    }

    pub(super) fn made_of(&self, rows: Relation) -> Table {
        let columns = rows.cols.into_iter().map(|col| Column {
            name: col.name,
            kind: col.kind,
            declared: declared_as(col.kind, self.dialect).to_owned(),
            not_null: false,
            key: "",
            default: None,
            counts: false,
        });
        Table { columns: columns.collect(), rows: rows.rows, next: 1, ..Table::default() }
    }

    fn column(&self, context: &Context<'_>, definition: &ColumnDef) -> Result<Column, Fault> {
        let written = definition.data_type.to_string().to_lowercase();
        let serial = matches!(written.as_str(), "serial" | "bigserial" | "smallserial" | "serial4" | "serial8");
        let declared = match self.dialect {
            Dialect::MySql => mysql_type(&written),
            Dialect::Postgres => postgres_type(&written),
        };
        let mut column = Column {
            name: match (self.dialect, definition.name.quote_style) {
                (Dialect::Postgres, None) => definition.name.value.to_lowercase(),
                _ => definition.name.value.clone(),
            },
            kind: Kind::declared(&declared),
            declared,
            not_null: serial,
            key: "",
            default: None,
            counts: serial,
        };
        for option in &definition.options {
            match &option.option {
                ColumnOption::NotNull => column.not_null = true,
                ColumnOption::PrimaryKey(_) => {
                    column.key = "PRI";
                    column.not_null = true;
                }
                ColumnOption::Unique(_) => column.key = "UNI",
                ColumnOption::Default(expr) => {
                    let text = expr.to_string().to_lowercase();
                    column.default = Some(if text.starts_with("current_timestamp") || text.starts_with("now(") {
                        "CURRENT_TIMESTAMP".into()
                    } else {
                        context.eval(expr, &NOTHING)?
                    });
                }
                ColumnOption::DialectSpecific(tokens) => {
                    let counts =
                        |token: &Token| matches!(token, Token::Word(word) if word.keyword == Keyword::AUTO_INCREMENT);
                    column.counts |= tokens.iter().any(counts);
                }
                ColumnOption::Generated { .. } | ColumnOption::Identity(_) => {
                    column.counts = true;
                    column.not_null = true;
                }
                _ => {}
            }
        }
        Ok(column)
    }

    pub(super) fn drop(
        &self,
        catalog: &mut Catalog,
        what: ObjectType,
        if_exists: bool,
        names: &[ObjectName],
        touch: &mut dyn FnMut(&str, &str),
    ) -> Outcome {
        let tag = format!("DROP {what}");
        for name in names {
            match what {
                ObjectType::Table | ObjectType::View | ObjectType::MaterializedView => {
                    let (database, schema, name) = self.place(name)?;
                    touch(&schema, &name);
                    if catalog.drop_table(&database, &schema, &name).is_none() && !if_exists {
                        return Err(match self.dialect {
                            Dialect::MySql => Fault::Own(1051, "42S02", format!("Unknown table '{database}.{name}'")),
                            Dialect::Postgres => Fault::Own(
                                0,
                                "42P01",
                                format!("{} \"{name}\" does not exist", what.to_string().to_lowercase()),
                            ),
                        });
                    }
                }
                ObjectType::Database | ObjectType::Schema => {
                    let (_, name) = select::named(name, self.dialect);
                    let kept = match self.dialect {
                        Dialect::MySql => {
                            ["mysql", "information_schema", "performance_schema", "sys"].contains(&&*name)
                        }
                        Dialect::Postgres => name == self.database,
                    };
                    if kept {
                        return Err(match self.dialect {
                            Dialect::MySql => Fault::ReadOnly(name),
                            Dialect::Postgres => {
                                Fault::Own(0, "55006", "cannot drop the currently open database".to_owned())
                            }
                        });
                    }
                    let gone = if self.dialect == Dialect::Postgres && what == ObjectType::Schema {
                        let schemas = catalog.databases.get_mut(self.database).map(|of| &mut of.schemas);
                        schemas.and_then(|schemas| schemas.remove(&name)).is_some()
                    } else {
                        catalog.drop_database(&name)
                    };
                    if !gone && !if_exists {
                        return Err(match (self.dialect, what) {
                            (Dialect::MySql, _) => Fault::Own(
                                1008,
                                "HY000",
                                format!("Can't drop database '{name}'; database doesn't exist"),
                            ),
                            (_, ObjectType::Schema) => Fault::NoSchema(name),
                            _ => Fault::NoDatabase(name),
                        });
                    }
                }
                _ => {}
            }
        }
        Ok(Done { tag, ..Done::default() })
    }

    pub(super) fn alter(
        &self,
        catalog: &mut Catalog,
        (database, schema, name): (&str, &str, &str),
        operation: &AlterTableOperation,
    ) -> Result<(), Fault> {
        let no_column = |column: &str| Fault::NoColumn { table: Some(name.to_owned()), name: column.to_owned() };
        match operation {
            AlterTableOperation::AddColumn { column_def, if_not_exists, .. } => {
                let column = self.column(&self.context(catalog), column_def)?;
                let table = catalog.table(database, schema, name).cloned();
                let table = table.ok_or_else(|| self.missing(database, schema, name))?;
                if table.at(&column.name).is_some() {
                    if *if_not_exists {
                        return Ok(());
                    }
                    return Err(Fault::ColumnExists { column: column.name, table: name.to_owned() });
                }
                if table.columns.len() >= 64 {
                    return Err(Fault::ManyColumns);
                }
                let value = self.default(&self.context(catalog), &column)?;
                catalog.take(table.rows.len() * value.size() + 128)?;
                let table = self.changed(catalog, database, schema, name)?;
                for row in &mut table.rows {
                    row.push(value.clone());
                }
                table.columns.push(column);
            }
            AlterTableOperation::DropColumn { column_names, if_exists, .. } => {
                let table = self.changed(catalog, database, schema, name)?;
                for column in column_names {
                    match table.at(&column.value) {
                        Some(at) => {
                            table.columns.remove(at);
                            for row in &mut table.rows {
                                if at < row.len() {
                                    row.remove(at);
                                }
                            }
                        }
                        None if *if_exists => {}
                        None => return Err(no_column(&column.value)),
                    }
                }
            }
            AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
                let table = self.changed(catalog, database, schema, name)?;
                let at = table.at(&old_column_name.value).ok_or_else(|| no_column(&old_column_name.value))?;
                if let Some(column) = table.columns.get_mut(at) {
                    column.name.clone_from(&new_column_name.value);
                }
            }
            AlterTableOperation::RenameTable { table_name } => {
                let (RenameTableNameKind::As(new) | RenameTableNameKind::To(new)) = table_name;
                let (_, new) = select::named(new, self.dialect);
                if catalog.table(database, schema, &new).is_some() {
                    return Err(Fault::TableExists(new));
                }
                let table = catalog.drop_table(database, schema, name);
                let table = table.ok_or_else(|| self.missing(database, schema, name))?;
                let _ = catalog.take(table.size());
                catalog.put_table(database, schema, &new, table);
            }
            _ => {
                self.changed(catalog, database, schema, name)?;
            }
        }
        Ok(())
    }
}

fn declared_as(kind: Kind, dialect: Dialect) -> &'static str {
    let mysql = dialect == Dialect::MySql;
    match kind {
        Kind::Bool if mysql => "tinyint(1)",
        Kind::Bool => "boolean",
        Kind::Int | Kind::Oid if mysql => "int",
        Kind::Int | Kind::Oid => "integer",
        Kind::BigInt => "bigint",
        Kind::Float if mysql => "double",
        Kind::Float => "double precision",
        Kind::Numeric if mysql => "decimal(14,4)",
        Kind::Numeric => "numeric",
        Kind::Timestamp if mysql => "datetime",
        Kind::Timestamp => "timestamp without time zone",
        Kind::Date => "date",
        Kind::Bytes if mysql => "longblob",
        Kind::Bytes => "bytea",
        Kind::Varchar | Kind::Name if mysql => "varchar(255)",
        _ => "text",
    }
}

fn mysql_type(written: &str) -> String {
    match written {
        "integer" => "int".to_owned(),
        "bool" | "boolean" => "tinyint(1)".to_owned(),
        other => other.to_owned(),
    }
}

fn postgres_type(written: &str) -> String {
    let plain = match written {
        "int" | "int4" | "serial" | "serial4" => "integer",
        "int8" | "bigserial" | "serial8" => "bigint",
        "int2" | "smallserial" => "smallint",
        "bool" => "boolean",
        "float8" | "double" => "double precision",
        "float4" => "real",
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        "varchar" => "character varying",
        "char" => "character(1)",
        "decimal" => "numeric",
        other => other,
    };
    if let Some(length) = plain.strip_prefix("varchar(") {
        return format!("character varying({length}");
    }
    if let Some(length) = plain.strip_prefix("char(") {
        return format!("character({length}");
    }
    if let Some(length) = plain.strip_prefix("decimal(") {
        return format!("numeric({length}");
    }
    plain.to_owned()
}
