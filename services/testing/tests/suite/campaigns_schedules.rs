//! Campaigns that run by themselves: when, once, and whatever happened meanwhile.

use aegis_db::now;
use aegis_error::Code;
use aegis_proto::testing::v1::*;
use aegis_schedule::Recurrence;
use aegis_testing::Config;
use chrono::{Datelike, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;

use crate::{campaigns_world::*, catalog, world::*};

const SCHEDULER: &[&str] = &["campaign schedules"];

#[tokio::test]
async fn a_schedule_says_when_the_next_run_is() {
    for world in worlds().await {
        let (campaign, _) = world.campaign_of("C", 1).await;
        let id = campaign.id.as_str();
        let before = now();
        let set = world.schedule(id, "weekly", "Asia/Tokyo", true).await.unwrap();
        assert_eq!((set.schedule.as_deref(), set.time_zone.as_deref()), (Some("weekly"), Some("Asia/Tokyo")));
        let next = time(set.next_run_at);
        // Tokyo's clocks are never put.
        assert!(next >= before + TimeDelta::days(7) - TimeDelta::seconds(1) && next <= now() + TimeDelta::days(7));

        // The same again counts from where it did; a pause and another schedule do not.
        let same = world.schedule(id, " weekly", "Asia/Tokyo", true).await.unwrap();
        assert_eq!(same, set);
        let paused = world.schedule(id, "weekly", "Asia/Tokyo", false).await.unwrap();
        assert_eq!((paused.next_run_at, paused.schedule.as_deref()), (None, Some("weekly")));
        let resumed = world.schedule(id, "weekly", "Asia/Tokyo", true).await.unwrap();
        assert_eq!((resumed.next_run_at, resumed.version), (set.next_run_at, set.version + 2));

        let berlin = Tz::Europe__Berlin;
        let night = world.schedule(id, "30  2 * * MON", "Europe/Berlin", true).await.unwrap();
        assert_eq!(night.schedule.as_deref(), Some("30 2 * * MON"));
        let next = time(night.next_run_at).with_timezone(&berlin);
        // Where Berlin's clocks leave half past two out it is three.
        let shown = (next.weekday().to_string(), next.hour(), next.minute());
        assert!(shown == ("Mon".to_owned(), 2, 30) || shown == ("Mon".to_owned(), 3, 0), "{next}");
        let elsewhere = world.schedule(id, "30 2 * * MON", "", true).await.unwrap();
        assert_eq!(elsewhere.time_zone.as_deref(), Some("UTC"));
        assert_ne!(elsewhere.next_run_at, night.next_run_at);

        let off = world.schedule(id, "", "", false).await.unwrap();
        assert_eq!((off.schedule, off.time_zone, off.next_run_at, off.schedule_enabled), (None, None, None, false));
        let changes: Vec<_> = world.campaign_changes().await.into_iter().map(|c| c.change).collect();
        assert_eq!(changes.iter().filter(|change| *change == "scheduled").count(), 6);
        world.close().await;
    }
}

#[tokio::test]
async fn schedules_that_are_none_are_refused() {
    for world in worlds().await {
        let id = world.campaign("C", None).await.id;
        for (schedule, zone, wrong, text) in [
            ("* * * * *", "UTC", "schedule", "once an hour"),
            ("*/30 3 * * *", "UTC", "schedule", "once an hour"),
            ("* * * * * *", "UTC", "schedule", "5 fields"),
            ("0 0 30 2 *", "UTC", "schedule", "never comes"),
            ("daily", "UTC", "schedule", "weekly, monthly, quarterly"),
            ("61 * * * *", "UTC", "schedule", "no cron expression"),
            ("", "UTC", "schedule", "is needed"),
            ("weekly", "Mars/Olympus", "time_zone", "IANA"),
        ] {
            let refused = world.schedule(&id, schedule, zone, true).await.unwrap_err();
            assert_eq!(fields(&refused), [wrong], "{schedule}");
            assert!(refused.fields()[0].problem.contains(text), "{schedule}: {refused}");
        }
        let both = world.schedule(&id, "never", "never", false).await.unwrap_err();
        assert_eq!(fields(&both), ["schedule", "time_zone"]);
        let request = SetCampaignScheduleRequest { id: id.clone(), schedule: "weekly".into(), ..Default::default() };
        assert_eq!(failure(world.campaigns(VIEWER).set_campaign_schedule(request).await).code(), Code::Forbidden);
        world.set_status(RED_TECH, &id, "completed").await.unwrap();
        assert_eq!(world.schedule(&id, "weekly", "", true).await.unwrap_err().code(), Code::InvalidState);
        world.close().await;
    }
}

#[tokio::test]
async fn a_campaign_that_is_over_is_due_no_more_until_it_goes_on() {
    for world in worlds().await {
        let (campaign, _) = world.campaign_of("C", 1).await;
        let id = campaign.id.as_str();
        let set = world.schedule(id, "monthly", "", true).await.unwrap();
        let over = world.set_status(RED_TECH, id, "completed").await.unwrap();
        assert_eq!((over.next_run_at, over.schedule_enabled), (None, true));
        let on = world.set_status(RED_TECH, id, "active").await.unwrap();
        assert_eq!(on.next_run_at, set.next_run_at);
        // What is due stays due when a draft becomes active.
        let due = now() - TimeDelta::minutes(1);
        world.due_since(id, due, due - TimeDelta::days(40)).await;
        world.set_status(RED_TECH, id, "draft").await.unwrap();
        assert_eq!(time(world.get_campaign(id).await.next_run_at), due);
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_runs_once_and_the_next_time_does_not_slip() {
    for mut world in worlds().await {
        let (campaign, _) = world.campaign_of("Weekly", 2).await;
        let (nightly, _) = world.campaign_of("Nightly", 1).await;
        let (later, _) = world.campaign_of("Later", 1).await;
        world.schedule(&campaign.id, "weekly", "America/New_York", true).await.unwrap();
        world.schedule(&nightly.id, "15 0 * * *", "Europe/Berlin", true).await.unwrap();
        world.schedule(&later.id, "weekly", "", true).await.unwrap();
        // Set long ago, due for the first time a week later, and nobody was there for months: over each change of the
        // clocks there is.
        let set = now() - TimeDelta::days(300);
        let (weekly, zone) = (Recurrence::Weekly, Tz::America__New_York);
        let first = weekly.next_after(zone, set, set).unwrap();
        world.due_since(&campaign.id, first, set).await;
        let night = Recurrence::parse("15 0 * * *").unwrap();
        let berlin = Tz::Europe__Berlin;
        world.due_since(&nightly.id, night.next_after(berlin, set, set).unwrap(), set).await;

        let tasks = named(&mut world.tasks, SCHEDULER);
        until("both run", tasks, async || {
            !world.runs(&campaign.id).await.is_empty() && !world.runs(&nightly.id).await.is_empty()
        })
        .await;
        let runs = world.runs(&campaign.id).await;
        assert_eq!(runs.len(), 1, "months that were missed are one run");
        let run = &runs[0];
        assert_eq!((run.trigger.as_str(), run.status.as_str(), run.test_count), ("scheduled", "created", 2));
        assert_eq!((run.started_by.as_deref(), run.started_by_username.as_str()), (None, "system:testing"));
        let started = time(run.started_at);
        // The last of the times that were missed, and after it the next: both by the calendar, whenever it started.
        let due = time(run.due_at);
        assert!(due <= started && started < weekly.next_after(zone, set, due).unwrap());
        assert_eq!(weekly.latest(zone, set, first, started).unwrap(), due);
        let after = world.get_campaign(&campaign.id).await;
        assert_eq!(time(after.next_run_at), weekly.next_after(zone, set, due).unwrap());
        assert_eq!(time(after.last_run_at), started);
        let clock = |at: chrono::DateTime<Utc>| at.with_timezone(&zone).format("%a %H:%M:%S").to_string();
        assert_eq!(clock(time(after.next_run_at)), clock(set), "the same day and hour as ten months ago");

        let nights = world.runs(&nightly.id).await;
        assert_eq!(nights.len(), 1);
        let next = time(world.get_campaign(&nightly.id).await.next_run_at);
        assert_eq!(next, night.next_after(berlin, set, time(nights[0].started_at)).unwrap());
        assert_eq!(next.with_timezone(&berlin).format("%H:%M").to_string(), "00:15");
        assert!(world.runs(&later.id).await.is_empty(), "what is not due does not run");

        // Its creator's tests, made by the service.
        let copy = world.placed(&campaign.id, Some(&run.id)).await.remove(0).test_id;
        assert_eq!(world.get(&copy).await.created_by_username, "rita");
        let (entry, _) = world.timeline(&copy).await.remove(0);
        assert_eq!((entry.actor.as_str(), entry.actor_id.as_str()), ("system:testing", ""));
        let outbox = world.outbox().await;
        let ran = outbox.iter().rfind(|e| e.r#type == "testing.campaign.changed").unwrap();
        assert_eq!(ran.actor.as_ref().unwrap().username, "system:testing");
        let audited = world.audit().await.into_iter().filter(|(action, done, _)| action == "run_campaign" && *done);
        assert_eq!(audited.count(), 2);
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_schedulers_one_runs_what_is_due() {
    for mut world in worlds().await {
        let mut ids = Vec::new();
        for n in 0..6 {
            let (campaign, _) = world.campaign_of(&format!("C{n}"), 2).await;
            world.schedule(&campaign.id, "0 * * * *", "", true).await.unwrap();
            ids.push(campaign.id);
        }
        let set = now() - TimeDelta::days(2);
        for id in &ids {
            world
                .due_since(id, now().with_minute(0).unwrap().with_second(0).unwrap().with_nanosecond(0).unwrap(), set)
                .await;
        }
        let mut tasks = named(&mut world.tasks, SCHEDULER);
        for _ in 0..3 {
            let mut twin = service(world.db.clone(), Config::default(), catalog::techniques_client()).await;
            tasks.extend(named(&mut twin.tasks, SCHEDULER));
        }
        assert_eq!(tasks.len(), 4);
        until("all run", tasks, async || {
            let mut ran = 0;
            for id in &ids {
                ran += usize::from(!world.runs(id).await.is_empty());
            }
            ran == ids.len()
        })
        .await;
        for id in &ids {
            let campaign = world.get_campaign(id).await;
            let runs = world.runs(id).await;
            // Where the hour ended meanwhile there is one more.
            let due: std::collections::HashSet<_> = runs.iter().map(|run| time(run.due_at)).collect();
            assert_eq!(due.len(), runs.len(), "a due time has one run");
            assert!(runs.len() <= 2 && time(campaign.next_run_at) > now() - TimeDelta::minutes(1));
            assert!(runs.iter().all(|run| run.status == "created"));
        }
        let drafts = world.changes().await.len();
        let runs = world.campaign_changes().await.into_iter().filter(|c| c.change == "ran").count();
        assert_eq!(drafts, 12 + 2 * runs, "and so have its tests");
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_is_noted_and_comes_again() {
    for mut world in worlds().await {
        let (empty, _) = world.campaign_of("Empty", 0).await;
        let (gone, tests) = world.campaign_of("Its test is deleted", 1).await;
        let (good, _) = world.campaign_of("Good", 1).await;
        let (broken, _) = world.campaign_of("Broken", 1).await;
        let set = now() - TimeDelta::days(30);
        for id in [&empty.id, &gone.id, &good.id, &broken.id] {
            world.schedule(id, "0 4 * * *", "", true).await.unwrap();
            world.due_since(id, set + TimeDelta::days(1), set).await;
        }
        world.delete(RED_TECH, &tests[0]).await.unwrap();
        // What an older or another version may have written.
        let mut tx = world.db.begin().await.unwrap();
        aegis_db::on!(tx, |c| sqlx::query("UPDATE campaign SET schedule = 'sometimes' WHERE name = 'Broken'")
            .execute(c)
            .await
            .map(|_| ()))
        .unwrap();
        tx.commit().await.unwrap();
        let tasks = named(&mut world.tasks, SCHEDULER);
        until("all have their run", tasks, async || {
            let mut ran = 0;
            for id in [&empty.id, &gone.id, &good.id, &broken.id] {
                ran += world.runs(id).await.len();
            }
            ran == 4
        })
        .await;
        for id in [&empty.id, &gone.id] {
            let run = world.runs(id).await.remove(0);
            assert_eq!(
                (run.status.as_str(), run.error.as_deref()),
                ("failed", Some("the campaign has no tests to run"))
            );
            assert_eq!((run.test_count, run.trigger.as_str()), (0, "scheduled"));
            let campaign = world.get_campaign(id).await;
            assert!(time(campaign.next_run_at) > now() && campaign.last_run_at.is_none());
            assert_eq!(time(campaign.next_run_at).format("%H:%M").to_string(), "04:00");
        }
        assert_eq!(world.runs(&good.id).await[0].status, "created");
        let run = world.runs(&broken.id).await.remove(0);
        assert!(run.error.unwrap().contains("cannot be read"));
        assert_eq!(world.get_campaign(&broken.id).await.next_run_at, None);
        let failed = world.campaign_changes().await.into_iter().filter(|c| c.change == "run_failed").count();
        assert_eq!(failed, 3);
        let lines = world.audit().await.into_iter().filter(|(action, done, _)| action == "run_campaign" && !done);
        assert_eq!(lines.count(), 3);
        world.close().await;
    }
}
