//! Topics that match a pattern come and go while it runs.

use std::{fs, sync::Arc};

use tokio::sync::{Notify, watch};
use trestle_memory::Cluster;

use super::rig::{Text, connect, delivered, produce, until};
use crate::{
    config::{self, Found, Watch},
    supervisor::{Supervisor, desk, follow},
};

#[tokio::test(start_paused = true)]
async fn every_topic_that_matches_is_carried_from_when_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("table.yaml");
    let text = Text::default()
        .whole("x", "from: { cluster: a, pattern: \"orders-.*\" }, to: { cluster: b, topic: \"copy-{topic}\" }");
    fs::write(&file, text.text()).unwrap();
    let cluster = Cluster::new(7);
    ["orders-1", "other"].iter().for_each(|topic| cluster.create(topic, 1));
    let checked = config::load(&file, &Found::new());
    let mut supervisor = Supervisor::start(&checked.table.unwrap(), connect(&cluster)).unwrap();
    let (statuses, table) = (supervisor.statuses(), supervisor.table());
    let ready = || statuses.borrow().iter().all(|status| status.reasons().is_empty());
    assert!(!ready(), "nobody knows yet what there is to carry");
    let (asked, (stop, stopping)) = (Arc::new(Notify::new()), watch::channel(false));
    let files = Watch::new(file.clone(), checked.inputs);
    let hangup = asked.clone();
    let following = tokio::spawn(async move {
        let (_, mut inbox) = desk(supervisor.news());
        follow(&mut supervisor, files, &hangup, &mut inbox, stopping).await;
        supervisor
    });
    produce(&cluster, "orders-1", 1);
    produce(&cluster, "other", 1);
    until("the first is carried", || delivered(&cluster, "copy-orders-1") == [1]).await;
    assert!(ready());
    let members = cluster.members("orders-1", "trestle-x-orders-1");

    cluster.create("orders-2", 1);
    produce(&cluster, "orders-2", 2);
    until("the second is found", || delivered(&cluster, "copy-orders-2") == [2]).await;
    let names = || table.borrow().routes.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(), ["x:orders-1", "x:orders-2"], "neither the other one nor the copies");
    assert_eq!(cluster.members("orders-1", "trestle-x-orders-1"), members, "the first is not touched");

    // The file says something else: what was found is kept as far as it still matches.
    fs::write(&file, text.text().replace("orders-.*", "orders-2")).unwrap();
    until("the first is left", || names() == ["x:orders-2"]).await;
    stop.send_replace(true);
    following.await.unwrap().drain().await;
}
