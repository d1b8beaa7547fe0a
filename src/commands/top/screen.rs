//! One sample as a table: on a terminal, or as lines.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Paragraph, Row, Table, TableState, Wrap},
};

use super::sample::{Hop, Sample};

const HEAD: [&str; 8] = ["ROUTE", "HOP", "STATE", "MSG/S", "BEHIND", "OLDEST", "IN FLIGHT", "DEAD"];
/// Lines for what is told of one hop.
const DETAILS: u16 = 6;

/// Everything that there is to be drawn.
#[derive(Default)]
pub struct Screen {
    pub sample: Sample,
    pub selected: usize,
    /// Why nothing new is shown.
    pub problem: Option<String>,
}

fn cells(hop: &Hop) -> [String; 8] {
    let oldest = Duration::from_secs(hop.oldest.as_secs());
    [
        hop.route.clone(),
        hop.name.clone(),
        hop.state.clone(),
        hop.rate.map_or("-".into(), |rate| format!("{rate:.0}")),
        hop.behind.map_or("-".into(), |behind| behind.to_string()),
        if hop.oldest.is_zero() { "-".into() } else { humantime::format_duration(oldest).to_string() },
        hop.in_flight.to_string(),
        hop.dead.to_string(),
    ]
}

impl Screen {
    pub fn step(&mut self, by: isize) {
        let last = self.sample.hops.len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(by).min(last);
    }

    pub fn draw(&self, frame: &mut Frame<'_>) {
        let [top, middle, bottom] =
            Layout::vertical([Constraint::Length(2), Constraint::Min(3), Constraint::Length(DETAILS)])
                .areas(frame.area());
        frame.render_widget(Paragraph::new(self.title()), top);
        let rows = self.sample.hops.iter().map(|hop| Row::new(cells(hop)).style(style(hop)));
        let widths = [12, 8, 8, 9, 10, 10, 10, 8].map(Constraint::Min);
        let head = Row::new(HEAD).style(Style::new().add_modifier(Modifier::BOLD));
        let table =
            Table::new(rows, widths).header(head).row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let mut state = TableState::new().with_selected(self.selected.min(self.sample.hops.len().saturating_sub(1)));
        frame.render_stateful_widget(table, middle, &mut state);
        frame.render_widget(Paragraph::new(self.details()).wrap(Wrap { trim: false }), bottom);
    }

    fn title(&self) -> Vec<Line<'static>> {
        let said = match (&self.problem, &self.sample.refused) {
            (Some(problem), _) => Line::styled(problem.clone(), Color::Red),
            (None, Some(refused)) => Line::styled(format!("the last table was refused: {refused}"), Color::Yellow),
            (None, None) => Line::raw("up and down choose a hop, q ends"),
        };
        vec![Line::raw(self.sample.title.clone()), said]
    }

    fn details(&self) -> Vec<Line<'static>> {
        let Some(hop) = self.sample.hops.get(self.selected) else { return Vec::new() };
        let what = Line::raw(format!("{}/{}: {}", hop.route, hop.name, hop.way));
        let waits = hop.waits.iter().map(|wait| Line::styled(wait.clone(), Color::Yellow));
        [what].into_iter().chain(waits).collect()
    }
}

fn style(hop: &Hop) -> Style {
    match (hop.waits.is_empty(), hop.state.as_str()) {
        (false, _) => Style::new().fg(Color::Yellow),
        (true, "paused") => Style::new().add_modifier(Modifier::DIM),
        (true, _) => Style::new(),
    }
}

/// The same for a program or a file: a line a hop, and one for each thing that it waits for.
pub fn lines(sample: &Sample) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(sample.hops.iter().map(cells));
    let mut text = format!("{}\n", sample.title);
    text.extend(sample.refused.iter().map(|why| format!("the last table was refused: {why}\n")));
    text.push_str(&crate::commands::columns(&rows));
    for hop in &sample.hops {
        text.extend(hop.waits.iter().map(|wait| format!("{}/{} waits for {wait}\n", hop.route, hop.name)));
    }
    text
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::{super::sample::tests::told, *};

    fn drawn(screen: &Screen) -> String {
        let mut terminal = Terminal::new(TestBackend::new(100, 14)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        buffer.content.chunks(100).map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
    }

    #[test]
    fn a_screen_shows_each_hop_and_what_the_chosen_one_waits_for() {
        let sample = told(400.0).since(&told(100.0), Duration::from_secs(2));
        let mut screen = Screen { sample, ..Screen::default() };
        let text = drawn(&screen);
        assert!(text.contains("trestle 0.1.0") && text.contains("IN FLIGHT") && text.contains("150"), "{text}");
        assert!(text.contains("orders/stage: main/orders") && !text.contains("no answer"), "{text}");
        screen.step(7);
        assert_eq!(screen.selected, 1);
        let text = drawn(&screen);
        assert!(text.contains("partition 3: no answer (since 2026"), "{text}");
        screen.step(-7);
        assert_eq!(screen.selected, 0);
        screen.problem = Some("nobody answers".into());
        assert!(drawn(&screen).contains("nobody answers"));
    }

    #[test]
    fn an_instance_without_routes_is_drawn_as_well() {
        let mut screen = Screen::default();
        screen.step(1);
        assert!(drawn(&screen).contains("ROUTE"));
    }

    #[test]
    fn as_lines_it_is_one_a_hop_and_one_a_wait() {
        let text = lines(&told(1.0));
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 5, "{text}");
        assert!(rows[3].starts_with("orders  deliver  waiting  -"), "{text}");
        assert_eq!(rows[4], "orders/deliver waits for partition 3: no answer (since 2026-01-31T12:00:00.000Z)");
    }
}
