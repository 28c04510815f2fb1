//! RabbitMQ: that it lets us in, and that every queue has somebody who takes from it.

use aegis_events::{Subscription, queue_name};
use lapin::{
    Connection, ConnectionProperties, ErrorKind, options::QueueDeclareOptions, tcp::OwnedTLSConfig, types::FieldTable,
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    Findings,
    report::{Finding, Level, sentence},
};
use crate::{roles::topology, settings::Settings, tls};

/// Messages of a queue from which on it is behind.
const BACKLOG: u32 = 10_000;

/// Looks at it.
pub(super) async fn check(settings: &Settings, url: &SecretString) -> Findings {
    let roots = match tls::more_roots(settings) {
        Ok(roots) => roots.map(|roots| String::from_utf8_lossy(&roots).into_owned()),
        Err(error) => return vec![Finding::new(Level::Problem, format!("{error:#}"))],
    };
    let properties = ConnectionProperties::default().with_connection_name("aegis-doctor".into());
    let tls = OwnedTLSConfig { identity: None, cert_chain: roots };
    let connected = async {
        let runtime = lapin::runtime::default_runtime()?;
        Connection::connect_with_config(url.expose_secret(), properties, tls, runtime).await
    };
    let connection = match connected.await {
        Ok(connection) => connection,
        Err(error) => return vec![refused(&error)],
    };
    let mut findings = vec![Finding::ok("lets us in")];
    let queues = topology().into_iter().map(|subscription| queue(&connection, subscription));
    findings.extend(futures::future::join_all(queues).await.into_iter().flatten());
    // The process ends soon anyway.
    let _ = connection.close(200, "looked".into()).await;
    findings
}

fn refused(error: &lapin::Error) -> Finding {
    let text = sentence(error);
    match error.kind() {
        // It answered.
        ErrorKind::ProtocolError(_) => Finding::new(Level::Problem, format!("does not let us in: {text}"))
            .advice("are the user, the password and the virtual host in AEGIS_BROKER_URL right? Make the host with `rabbitmqctl add_vhost`"),
        _ => Finding::new(Level::Unreachable, format!("does not answer: {text}"))
            .advice("is RabbitMQ running, and is AEGIS_BROKER_URL right? A wrong password may look the same"),
    }
}

async fn queue(connection: &Connection, subscription: Subscription) -> Findings {
    let name = queue_name(subscription.consumer);
    let own = match look(connection, &name).await {
        Ok((messages, consumers)) => judge(subscription.consumer, messages, consumers),
        Err(_) => Finding::new(Level::Warning, "is not there yet")
            .advice("the first process that publishes makes it; start the product"),
    };
    let mut findings = vec![own.about(&name)];
    let dead = format!("{name}.dead");
    if let Ok((messages @ 1.., _)) = look(connection, &dead).await {
        let what = format!("{messages} messages could not be delivered");
        let advice = format!("look at them in the queue {dead}, mend the cause, then move them back with a shovel");
        findings.push(Finding::new(Level::Warning, what).advice(advice).about(dead));
    }
    findings
}

fn judge(consumer: &str, messages: u32, consumers: u32) -> Finding {
    match (messages, consumers) {
        (_, 0) => Finding::new(Level::Problem, format!("nobody takes from it; {messages} messages wait"))
            .advice(format!("start {consumer}, or look into its log")),
        (BACKLOG.., _) => Finding::new(Level::Warning, format!("{messages} messages wait for {consumers} consumers"))
            .advice(format!("{consumer} is behind: look at its load and its database, or start another replica")),
        _ => Finding::ok(format!("{messages} messages, {consumers} consumers")),
    }
}

/// Its messages and consumers. On a channel of its own: asking for a queue that is not there ends the channel.
async fn look(connection: &Connection, name: &str) -> lapin::Result<(u32, u32)> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await?;
    // In good order, so that neither side complains of the end of the connection.
    channel.close(200, "looked".into()).await?;
    Ok((queue.message_count(), queue.consumer_count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_nobody_reads_is_wrong_and_a_long_one_is_told() {
        let told = |messages, consumers| serde_json::to_value(judge("identity", messages, consumers)).unwrap();
        assert_eq!(told(0, 1)["level"], "ok");
        assert_eq!(told(BACKLOG, 2)["level"], "warning");
        assert_eq!(told(0, 0)["level"], "problem");
        assert!(told(7, 0)["advice"].as_str().unwrap().contains("start identity"));
    }
}
