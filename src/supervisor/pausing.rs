//! Routes that a person pauses and resumes. A pause outlives a new table, and ends with the process.

use super::{Refused, Supervisor};

impl Supervisor {
    pub(super) fn is_paused(&self, route: &str) -> bool {
        self.news.borrow().paused.contains(route)
    }

    /// Tells the route to drain; true when it was not paused before. It reads nothing more, settles what it can within the
    /// grace, and goes on from there once it is resumed.
    pub fn pause(&mut self, route: &str) -> Result<bool, Refused> {
        if !self.table.borrow().routes.contains_key(route) {
            return Err(Refused::NoRoute);
        }
        if !self.news.send_if_modified(|news| news.paused.insert(route.to_owned())) {
            return Ok(false);
        }
        if let Some(run) = self.running.remove(route) {
            run.stop();
            self.leaving.retain(|run| !run.ending().is_over());
            self.leaving.push(run);
        }
        self.tell_paused(route, true);
        Ok(true)
    }

    /// Starts the route again, as the table that runs has it; true when it was paused.
    pub fn resume(&mut self, route: &str) -> Result<bool, Refused> {
        let table = self.table.borrow().clone();
        let Some(wanted) = table.routes.get(route) else { return Err(Refused::NoRoute) };
        if !self.is_paused(route) {
            return Ok(false);
        }
        let setups = self.setups(&[wanted], &table, &self.shared).map_err(Refused::Failed)?;
        self.news.send_if_modified(|news| news.paused.remove(route));
        setups.into_iter().for_each(|(route, setups)| self.run(route, setups));
        self.tell_paused(route, false);
        Ok(true)
    }

    fn tell_paused(&self, route: &str, paused: bool) {
        self.tell_statuses();
        metrics::gauge!("trestle_route_paused", "route" => route.to_owned()).set(f64::from(paused));
        tracing::info!(route, "{}", if paused { "paused: it drains" } else { "resumed" });
    }
}
