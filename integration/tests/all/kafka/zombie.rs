//! A member that was frozen past its session, and wakes up after another took over.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use trestle_core::Event;

use super::rig::*;

const MESSAGES: u64 = 2000;
const OPTIONS: [(&str, &str); 2] = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "1000")];

/// What becomes the zombie: a process of its own, because a thread cannot be frozen alone. Holds one batch, settles it when
/// it has been woken up, and says what it hears.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of the test below"]
async fn the_frozen_one() -> Result<()> {
    let word = |name: &str| env::var(name).with_context(|| format!("{name} is not set"));
    let connector = connector(&word("ZOMBIE_SERVERS")?, &OPTIONS)?;
    let mut member = Member::join(&connector, source_spec(&word("ZOMBIE_TOPIC")?, &word("ZOMBIE_GROUP")?)).await?;
    member.assigned(None).await?;
    let mut held = Vec::new();
    let mut count = 0;
    while count < MESSAGES as usize {
        let batch = member.batch().await?;
        count += batch.messages.len();
        held.push(batch);
    }
    println!("\nholding");
    let before = Instant::now();
    // Jumps when the process is frozen: the clock goes on.
    let mut last = before;
    while last.elapsed() < Duration::from_secs(5) {
        last = Instant::now();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for batch in held.drain(..) {
        batch.ack.settle(0..batch.messages.len() as u32 / 2);
    }
    loop {
        match member.next(SOON).await?.context("nothing after the freeze")? {
            Event::Revoked { lost, .. } => {
                println!("\nrevoked, lost: {lost}");
                break;
            }
            other => println!("\n{}", what(&other)),
        }
    }
    member.control.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_frozen_past_its_session_commits_nothing_any_more() -> Result<()> {
    let servers = servers().await?;
    let (topic, group) = (unique("zombie"), unique("group"));
    create_topic(&servers, &topic, 2, &[]).await?;
    fill(&servers, &topic, 2, MESSAGES, 100)?;
    let mut zombie = Zombie(
        Command::new(env::current_exe()?)
            .args(["the_frozen_one", "--ignored", "--nocapture", "--test-threads", "1"])
            .env("ZOMBIE_SERVERS", &servers)
            .env("ZOMBIE_TOPIC", &topic)
            .env("ZOMBIE_GROUP", &group)
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut lines = BufReader::new(zombie.0.stdout.take().context("no output")?).lines();
    let mut heard = |wanted: &str| -> Result<String> {
        for line in lines.by_ref() {
            let line = line?;
            if line.contains(wanted) {
                return Ok(line);
            }
        }
        bail!("the zombie ended and never said {wanted}")
    };
    heard("holding")?;
    zombie.signal("-STOP")?;

    let connector = connector(&servers, &OPTIONS)?;
    let mut heir = Member::join(&connector, source_spec(&topic, &group)).await?;
    let partitions = heir.assigned(None).await?;
    ensure!(partitions.len() == 2, "{partitions:?}");
    ensure!(heir.read(MESSAGES as usize).await?.len() == MESSAGES as usize);
    heir.control.commit(partitions).await?;
    zombie.signal("-CONT")?;
    let said = tokio::task::block_in_place(|| heard("revoked"))?;
    ensure!(said.contains("lost: true"), "{said}");
    let deadline = Instant::now() + SOON;
    while zombie.0.try_wait()?.is_none() {
        ensure!(Instant::now() < deadline, "the zombie does not leave");
        drop(heir.next(Duration::from_millis(100)).await?);
    }
    let committed = committed(&servers, &group, &topic, 2).await?;
    ensure!(committed.values().all(|offset| *offset as u64 == MESSAGES / 2), "{committed:?}");
    heir.control.close().await;
    Ok(())
}

struct Zombie(Child);

impl Zombie {
    fn signal(&self, signal: &str) -> Result<()> {
        let done = Command::new("kill").args([signal, &self.0.id().to_string()]).status()?;
        ensure!(done.success(), "kill {signal}");
        Ok(())
    }
}

impl Drop for Zombie {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}
