//! The table's file changes while it runs.

use std::{
    fs, io,
    sync::{Arc, Mutex},
};

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::{
    sync::{Notify, watch},
    time::{Duration, sleep, timeout},
};
use trestle_memory::Cluster;

use super::rig::{Text, connect, delivered, produce, until};
use crate::{
    config::{self, LOOK_EVERY, Watch},
    supervisor::{Supervisor, desk, follow},
};

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self, text: &str) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

/// Past every look that would find a change.
async fn looked() {
    sleep(5 * LOOK_EVERY).await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_table_is_told_once_and_changes_nothing_and_a_right_one_is_applied() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let recorder = PrometheusBuilder::new().build_recorder();
    let _counted = metrics::set_default_local_recorder(&recorder);
    let counted = |line: &str| recorder.handle().render().lines().any(|counted| counted == line);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("table.yaml");
    let one = Text::default().route("x", "").text();
    fs::write(&file, &one).unwrap();
    let cluster = Cluster::new(7);
    ["x-in", "y-in"].iter().for_each(|topic| cluster.create(topic, 1));
    let checked = config::load(&file, &config::Found::new());
    let mut supervisor = Supervisor::start(&checked.table.unwrap(), connect(&cluster)).unwrap();
    let files = Watch::new(file.clone(), checked.inputs);
    let (asked, (stop, stopping)) = (Arc::new(Notify::new()), watch::channel(false));
    let hangup = asked.clone();
    let following = tokio::spawn(async move {
        let (_, mut inbox) = desk(supervisor.news());
        follow(&mut supervisor, files, &hangup, &mut inbox, stopping).await;
        supervisor
    });
    (0..10).for_each(|number| produce(&cluster, "x-in", number));
    until("the first table runs", || delivered(&cluster, "x-out").len() == 10).await;
    let members = cluster.members("x-in", "trestle-x");

    // Wrong in two places, of which one is in the route that runs.
    fs::write(&file, one.replace("x-out", "x-out, topik: y").replace("routes:", "rootes: {}\nroutes:")).unwrap();
    looked().await;
    let wrong = log.lines("the table is wrong");
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].contains("unknown key `rootes`") && wrong[0].contains("line=4 column=1"), "{wrong:?}");
    assert!(wrong[1].contains("nearest=\"topic\""), "{wrong:?}");
    assert_eq!(log.lines("it has 2 mistakes").len(), 1);
    assert!(counted("trestle_config_reload_failures_total 1") && counted("trestle_config_generation 1"));
    // Whoever asks is told again.
    asked.notify_one();
    looked().await;
    assert_eq!(log.lines("the table is wrong").len(), 4);
    assert!(counted("trestle_config_reload_failures_total 2"));
    (10..20).for_each(|number| produce(&cluster, "x-in", number));
    until("it still runs", || delivered(&cluster, "x-out").len() == 20).await;
    assert_eq!(cluster.members("x-in", "trestle-x"), members);

    fs::write(&file, Text::default().route("x", "").route("y", "").text()).unwrap();
    produce(&cluster, "y-in", 7);
    until("the right table runs", || delivered(&cluster, "y-out") == [7]).await;
    let applied = log.lines("the table is applied");
    assert!(applied.len() == 1 && applied[0].contains("generation=2 added=\"y\""), "{applied:?}");
    assert!(counted("trestle_config_generation 2"));
    fs::remove_file(&file).unwrap();
    looked().await;
    assert_eq!(log.lines("cannot read the table").len(), 1);
    assert!(counted("trestle_config_reload_failures_total 3"));

    // The end comes first, even when there is something to read.
    fs::write(&file, &one).unwrap();
    asked.notify_one();
    stop.send_replace(true);
    let supervisor = timeout(Duration::from_secs(1), following).await.unwrap().unwrap();
    supervisor.drain().await;
    assert_eq!(log.lines("the table is applied").len(), 1);
    assert_eq!(delivered(&cluster, "x-out"), (0..20).collect::<Vec<_>>());
}
