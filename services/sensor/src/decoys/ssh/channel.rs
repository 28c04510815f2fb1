//! One session channel: a shell, a command, sftp.

use std::{io, pin::Pin, sync::Arc};

use async_trait::async_trait;
use russh::{Channel, ChannelMsg, ChannelReadHalf, Sig, server::Msg};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{scp, sftp};
use crate::{
    session::{EventType, Session},
    shell::{
        Machine, Shell,
        tty::{Input, Line, Terminal},
    },
};

/// Variables that a client may send along.
const MAX_VARIABLES: usize = 16;

/// Whether sshd takes this variable from a client.
pub fn accepted(name: &str) -> bool {
    name == "LANG" || name.starts_with("LC_")
}

/// Serves a channel until it is closed.
pub async fn run(mut channel: Channel<Msg>, session: Session, machine: Arc<Machine>, user: String) {
    let mut size = None;
    let mut variables: Vec<(String, String)> = Vec::new();
    let clamp = |columns: u32, rows: u32| {
        let bounded =
            |value: u32, usual: u16| if value == 0 { usual } else { u16::try_from(value.min(1000)).unwrap_or(usual) };
        (bounded(columns, 80), bounded(rows, 24))
    };
    let command = loop {
        match channel.wait().await {
            None | Some(ChannelMsg::Close) => return,
            Some(ChannelMsg::RequestPty { col_width, row_height, .. }) => size = Some(clamp(col_width, row_height)),
            Some(ChannelMsg::WindowChange { col_width, row_height, .. }) if size.is_some() => {
                size = Some(clamp(col_width, row_height));
            }
            Some(ChannelMsg::SetEnv { variable_name, variable_value, .. })
                if accepted(&variable_name) && variables.len() < MAX_VARIABLES =>
            {
                variables.push((variable_name, variable_value));
            }
            Some(ChannelMsg::RequestShell { .. }) => break None,
            Some(ChannelMsg::Exec { command, .. }) => {
                let most = command.len().min(64 << 10);
                break Some(crate::shell::text_of(command.get(..most).unwrap_or_default()));
            }
            Some(ChannelMsg::RequestSubsystem { name, .. }) if name == "sftp" => {
                session.emit(
                    EventType::Command,
                    "subsystem sftp",
                    &[("command", "subsystem sftp"), ("cwd", ""), ("exit_code", "")],
                );
                sftp::serve(channel, &session, &machine, &user).await;
                return;
            }
            Some(_) => {}
        }
    };
    let (read, write) = channel.split();
    let out: Pin<Box<dyn AsyncWrite + Send>> = Box::pin(write.make_writer());
    let err: Pin<Box<dyn AsyncWrite + Send>> = Box::pin(write.make_writer_ext(Some(1)));
    let line = Box::new(ChannelLine { read, out, err });
    let recorder = size.map(|(columns, rows)| session.record(columns, rows));
    let terminal = Terminal::new(line, size.is_some(), size.unwrap_or((80, 24)), recorder);
    let mut shell = Shell::new(&machine, &session, &user, terminal);
    for (name, value) in &variables {
        shell.set_environment(name, value);
    }
    let status = match command {
        None => shell.interact().await,
        Some(command) => match scp::Request::parse(&command) {
            Some(request) => scp::serve(&mut shell, &request, &command).await,
            None => shell.execute(&command).await,
        },
    };
    drop(shell);
    let _ = write.exit_status(u32::try_from(status & 0xff).unwrap_or(255)).await;
    let _ = write.eof().await;
    let _ = write.close().await;
}

/// A channel as the way to a client.
struct ChannelLine {
    read: ChannelReadHalf,
    out: Pin<Box<dyn AsyncWrite + Send>>,
    err: Pin<Box<dyn AsyncWrite + Send>>,
}

#[async_trait]
impl Line for ChannelLine {
    async fn read(&mut self) -> Input {
        loop {
            match self.read.wait().await {
                Some(ChannelMsg::Data { data }) => return Input::Data(data.to_vec()),
                Some(ChannelMsg::WindowChange { col_width, row_height, .. }) => {
                    let bounded = |value: u32| u16::try_from(value.clamp(1, 1000)).unwrap_or(80);
                    return Input::Size(bounded(col_width), bounded(row_height));
                }
                Some(ChannelMsg::Signal { signal: Sig::INT }) => return Input::Data(vec![3]),
                Some(ChannelMsg::Eof | ChannelMsg::Close) | None => return Input::End,
                Some(_) => {}
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes).await?;
        self.out.flush().await
    }

    async fn write_error(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.err.write_all(bytes).await?;
        self.err.flush().await
    }
}
