//! The product from outside: one set of scenarios over REST and gRPC, against the one-process product and against
//! separate processes on PostgreSQL, RabbitMQ, Redis and S3.
//!
//! The second half runs where the `AEGIS_TEST_…` variables name the stores (`cargo xtask test` sets them) and says so
//! where they do not. Scenarios of one mode take turns on one product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a scenario fails by panicking")]
#![allow(missing_docs, reason = "nobody imports a test")]

mod access;
mod analytics;
mod audit;
mod backup;
mod carriers;
mod chaos;
mod conditions;
mod config;
mod conventions;
mod deception;
mod doctor;
mod durability;
mod edge;
mod errors;
mod harness;
mod introspection;
mod killed_sync;
mod knowledge;
mod measured;
mod notifications;
mod pages;
mod races;
mod replicas;
mod roles;
mod start;
mod story;
mod traces;
mod versions;
mod workflow;

/// Every scenario in both modes, side by side: those of one mode wait for each other, those of two do not.
macro_rules! scenarios {
    ($($name:ident => $scenario:path;)*) => {
        $(
            mod $name {
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn embedded() {
                    let mut product = crate::harness::embedded().await;
                    $scenario(&mut product).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn processes() {
                    let Some(mut product) = crate::harness::processes().await else { return };
                    $scenario(&mut product).await;
                }
            }
        )*
    };
}

scenarios! {
    the_story => crate::story::scenario;
    bad_input_changes_nothing => crate::errors::input;
    who_is_not_let_in => crate::errors::identity;
    keys_rotation_and_attacks => crate::access::scenario;
    config_and_its_users => crate::config::scenario;
    requests_are_made_once => crate::conventions::scenario;
    changes_of_old_versions_are_refused => crate::conditions::scenario;
    every_route_and_every_role => crate::roles::scenario;
    a_backup_is_the_product_of_one_moment => crate::backup::scenario;
    the_doctor_says_what_is_wrong => crate::doctor::scenario;
    kill_9_loses_nothing => crate::durability::scenario;
    no_move_is_lost_or_made_twice => crate::chaos::scenario;
    the_workflow_refuses_what_it_must => crate::workflow::scenario;
    the_audit_trail_is_exported_and_proved => crate::audit::scenario;
    races_have_one_winner => crate::races::scenario;
    notifications_are_told_as_they_come => crate::notifications::scenario;
    // After the story, which brings an older ATT&CK in first.
    the_whole_knowledge_base => crate::knowledge::scenario;
    a_killed_sync_is_run_again => crate::killed_sync::scenario;
    // By its name after the knowledge base, which brings rules, actors and controls in.
    what_is_tested_is_scored_and_reported => crate::analytics::scenario;
    what_attackers_do_is_seen => crate::deception::scenario;
    the_trace_of_a_change => crate::traces::scenario;
    // By its name after most others, so that what they did is measured.
    what_is_measured_is_documented => crate::measured::scenario;
    two_versions_run_side_by_side => crate::versions::scenario;
    grpc_introspection => crate::introspection::scenario;
    pages_need_no_network => crate::pages::scenario;
}
