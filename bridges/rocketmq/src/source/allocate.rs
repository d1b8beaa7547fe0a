use crate::route::Queue;

/// The queues of `member`, as every member works them out for itself from the same sorted lists: consecutive shares, the
/// larger ones first (`AllocateMessageQueueAveragely.java`, the Java clients' default). None for who is no member.
pub fn allocate(queues: &[Queue], members: &[String], member: &str) -> Vec<Queue> {
    let Some(index) = members.iter().position(|m| m == member) else { return Vec::new() };
    let (share, larger) = (queues.len() / members.len(), queues.len() % members.len());
    let begin = index * share + index.min(larger);
    let end = begin + share + usize::from(index < larger);
    queues.get(begin..end).unwrap_or_default().to_vec()
}

/// Whose queue it is.
pub fn owner<'a>(queue: &Queue, queues: &[Queue], members: &'a [String]) -> Option<&'a String> {
    members.iter().find(|member| allocate(queues, members, member).contains(queue))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(count: u32) -> Vec<Queue> {
        (0..count).map(|id| Queue { broker: "b".into(), id }).collect()
    }

    fn members(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn shares_are_those_of_the_java_clients() {
        let ids = |count, names: &[&str], who| {
            allocate(&queues(count), &members(names), who).iter().map(|q| q.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(4, &["a", "b"], "b"), [2, 3]);
        assert_eq!(ids(5, &["a", "b", "c"], "a"), [0, 1]);
        assert_eq!(ids(5, &["a", "b", "c"], "b"), [2, 3]);
        assert_eq!(ids(5, &["a", "b", "c"], "c"), [4]);
        assert_eq!(ids(1, &["a", "b"], "a"), [0]);
        assert!(ids(1, &["a", "b"], "b").is_empty());
        assert!(ids(4, &["a", "b"], "stranger").is_empty());
    }

    #[test]
    fn every_queue_has_one_owner() {
        let names = members(&["a", "b", "c"]);
        for count in 0..20 {
            let all = queues(count);
            assert_eq!(names.iter().map(|m| allocate(&all, &names, m).len()).sum::<usize>(), count as usize);
            assert!(all.iter().all(|q| owner(q, &all, &names).is_some()));
        }
    }
}
