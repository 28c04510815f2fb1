//! Brings a database's tables up to date, and works with those that a newer version has brought further.

use sqlx::migrate::{Migrate, Migration, Migrator};

use crate::{Db, Migrations, Result};

impl Db {
    /// Applies the migrations that are missing, of all `sets` together; their version numbers must differ.
    /// One process at a time does it; the others wait.
    ///
    /// Migrations that only a newer version knows are no error: while one version follows another, both run. A newer
    /// migration must therefore leave everything in place that the version before it uses (expand, and contract one
    /// release later). A migration that is known and reads otherwise than it did when it was applied is an error.
    pub async fn migrate(&self, sets: &[Migrations]) -> Result<()> {
        let mut migrator = Migrator::with_migrations(sets.iter().flat_map(|set| set.of(self)).collect());
        migrator.set_ignore_missing(true);
        let newer = match self {
            Db::Postgres(pool) => {
                migrator.run(pool).await?;
                unknown(&migrator, &mut *pool.acquire().await?).await?
            }
            Db::Sqlite(sqlite) => {
                migrator.run(&sqlite.write).await?;
                unknown(&migrator, &mut *sqlite.write.acquire().await?).await?
            }
        };
        if !newer.is_empty() {
            tracing::warn!(?newer, "a newer version has brought the database further; this one works with it");
        }
        Ok(())
    }
}

impl Migrations {
    /// Those for a database of this kind.
    pub fn of(&self, db: &Db) -> Vec<Migration> {
        match db {
            Db::Postgres(_) => self.postgres.iter().cloned().collect(),
            Db::Sqlite(_) => self.sqlite.iter().cloned().collect(),
        }
    }
}

/// The versions that were applied and that `migrator` does not know.
async fn unknown<C: Migrate>(migrator: &Migrator, connection: &mut C) -> Result<Vec<i64>> {
    let applied = connection.list_applied_migrations(&migrator.table_name).await?;
    Ok(applied.iter().map(|one| one.version).filter(|version| !migrator.version_exists(*version)).collect())
}
