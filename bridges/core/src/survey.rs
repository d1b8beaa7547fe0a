use crate::{Connector, Fault, FaultKind, TopicInfo, Why};

/// What a cluster says of itself and of some topics, when it is only asked.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Of the brokers, where they tell it.
    pub version: Option<String>,
    pub brokers: Option<usize>,
    /// What is wrong with the cluster although it answers, in sentences for people.
    pub problems: Vec<String>,
    /// In the order in which they were asked for.
    pub topics: Vec<Surveyed>,
}

#[derive(Clone, Debug)]
pub enum Surveyed {
    There(TopicInfo),
    Missing {
        /// Why [`Connector::ensure`] could not make it, as far as that shows without trying.
        obstacle: Option<String>,
        /// As [`TopicInfo::losses`], once it was made to keep messages.
        losses: Vec<String>,
    },
    /// It could not be found out.
    Unknown(Fault),
}

impl Surveyed {
    /// From what [`Connector::describe`] said; a topic that is missing can be made as far as anybody knows.
    pub fn from_description(described: Result<TopicInfo, Fault>) -> Self {
        match described {
            Ok(info) => Surveyed::There(info),
            Err(fault) if fault.kind == FaultKind::Unavailable(Why::UnknownTopic) => {
                Surveyed::Missing { obstacle: None, losses: Vec::new() }
            }
            Err(fault) => Surveyed::Unknown(fault),
        }
    }
}

/// One topic after the other, for connectors that know nothing better.
pub(crate) async fn describe_each<C: Connector + ?Sized>(connector: &C, topics: &[String]) -> Survey {
    let mut survey = Survey::default();
    for topic in topics {
        survey.topics.push(Surveyed::from_description(connector.describe(topic).await));
    }
    survey
}
