//! The group's first positions of a topic.

use trestle_core::Fault;

use super::group::Group;
use crate::route::Queue;

/// So often a position is set that is not there afterwards.
const TRIES: usize = 5;

impl Group {
    /// Sets the group's first position in a queue. While a broker has no position of the group in any queue of the topic, it
    /// loses one of two that come together, and confirms both (`ConsumerOffsetManager.commitOffset`): so they go one by one, and
    /// are looked for, because other members may be at it as well.
    pub async fn commit_first(&self, queue: &Queue, next: u64) -> Result<(), Fault> {
        let _one_at_a_time = self.first_commits.lock().await;
        for _ in 0..TRIES {
            self.commit(queue, next).await?;
            if self.committed(queue).await?.is_some() {
                return Ok(());
            }
        }
        Err(Fault::down(format!("{}: the broker confirms a position and does not have it", self.about_queue(queue))))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

    use futures::future::join_all;
    use serde_json::{Value, json};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time::timeout,
    };
    use trestle_core::{SourceSpec, Start};

    use super::*;
    use crate::{
        client::{Client, Routes},
        remoting::codes::{answer, request},
        route::Route,
        tags::Tags,
    };

    /// Loses the first position, and of two that come together the first.
    async fn careless(mut stream: TcpStream) -> io::Result<()> {
        let (mut positions, mut lost) = (BTreeMap::<String, String>::new(), false);
        let mut ahead = None;
        loop {
            let asked = match ahead.take() {
                Some(asked) => asked,
                None => read(&mut stream).await?,
            };
            let field = |name: &str| asked["extFields"][name].as_str().unwrap_or_default().to_owned();
            let offset = positions.get(&field("queueId"));
            let (code, offset) = match asked["code"].as_i64() == Some(request::UPDATE_CONSUMER_OFFSET.into()) {
                true => {
                    if let Ok(next) = timeout(Duration::from_millis(50), read(&mut stream)).await {
                        (ahead, lost) = (Some(next?), false);
                    }
                    if std::mem::replace(&mut lost, true) {
                        positions.insert(field("queueId"), field("commitOffset"));
                    }
                    (answer::SUCCESS, None)
                }
                false => (if offset.is_some() { answer::SUCCESS } else { answer::QUERY_NOT_FOUND }, offset),
            };
            let fields = offset.map_or(json!({}), |offset| json!({ "offset": offset }));
            let header = json!({ "code": code, "flag": 1, "opaque": asked["opaque"], "extFields": fields });
            let header = serde_json::to_vec(&header)?;
            stream.write_u32(4 + header.len() as u32).await?;
            stream.write_u32(header.len() as u32).await?;
            stream.write_all(&header).await?;
        }
    }

    async fn read(stream: &mut TcpStream) -> io::Result<Value> {
        let mut frame = vec![0; stream.read_u32().await? as usize];
        stream.read_exact(&mut frame).await?;
        Ok(serde_json::from_slice(frame.get(4..).unwrap_or_default())?)
    }

    fn group(address: &str) -> Group {
        let route = json!({
            "brokerDatas": [{ "brokerName": "b", "brokerAddrs": { "0": address } }],
            "queueDatas": [{ "brokerName": "b", "readQueueNums": 4, "writeQueueNums": 4, "perm": 6 }],
        });
        Group {
            client: Client::new("c", vec![address.to_owned()], None),
            routes: Routes::new("t", Route::parse(route.to_string().as_bytes()).unwrap()),
            spec: SourceSpec {
                topic: "t".into(),
                group: "g".into(),
                start: Start::Latest,
                route: "r".into(),
                buffer_bytes: 1,
                largest_message: 1,
                commit_interval: Duration::from_secs(1),
                options: BTreeMap::new(),
            },
            tags: Tags::parse("*").unwrap(),
            member: "m".into(),
            pull_suspend: Duration::from_secs(1),
            first_commits: Default::default(),
            shaken: Default::default(),
        }
    }

    #[tokio::test]
    async fn first_positions_go_one_by_one_and_until_they_are_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let group = Arc::new(group(&listener.local_addr().unwrap().to_string()));
        tokio::spawn(async move { careless(listener.accept().await.unwrap().0).await });
        let queues: Vec<Queue> = (0..4).map(|id| Queue { broker: "b".into(), id }).collect();
        for result in join_all(queues.iter().map(|queue| group.commit_first(queue, 7))).await {
            result.unwrap();
        }
        for queue in &queues {
            assert_eq!(group.committed(queue).await.unwrap(), Some(7));
        }
    }
}
