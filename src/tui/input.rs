//! What is typed into a line or a list, and the mouse.

use ratatui::crossterm::event::{KeyCode, MouseButton, MouseEvent, MouseEventKind};

use super::draw::Target;
use super::keys::Action;
use super::state::{Effect, HOLD, Overlay, State};
use crate::schema::Names;

impl State {
    pub(super) fn type_filter(
        &mut self,
        mut text: String,
        mut earlier: usize,
        code: KeyCode,
        names: &dyn Names,
    ) {
        match code {
            KeyCode::Enter | KeyCode::Esc => {
                self.overlay = Overlay::None;
                self.message.clear();
                if code == KeyCode::Esc {
                    self.tab_mut().view.filter.clear();
                } else if !text.is_empty() {
                    self.filters.retain(|it| *it != text);
                    self.filters.insert(0, text);
                    self.filters.truncate(20);
                }
                self.look(names);
                return;
            }
            KeyCode::Backspace => _ = text.pop(),
            KeyCode::Char(c) => text.push(c),
            KeyCode::Up | KeyCode::Down => {
                let next = earlier.saturating_add_signed(if code == KeyCode::Up { 1 } else { -1 });
                earlier = next.min(self.filters.len());
                text = earlier
                    .checked_sub(1)
                    .map_or_else(String::new, |it| self.filters[it].clone());
            }
            KeyCode::Tab => text = self.tab().completed(&text),
            _ => {}
        }
        match self.tab().check(&text, names) {
            Ok(()) => {
                self.message.clear();
                self.tab_mut().view.filter.clone_from(&text);
                self.look(names);
            }
            // The last valid one holds.
            Err(error) => self.message = format!("{error:#}"),
        }
        self.overlay = Overlay::Filter(text, earlier);
    }

    pub(super) fn choose_column(&mut self, place: usize, code: KeyCode) {
        let columns = self.tab().columns();
        let last = columns.len().saturating_sub(1);
        match code {
            KeyCode::Up => self.overlay = Overlay::Columns(place.saturating_sub(1)),
            KeyCode::Down => self.overlay = Overlay::Columns((place + 1).min(last)),
            KeyCode::Char(' ') => {
                let hidden = &mut self.tab_mut().view.hidden;
                if let Some(column) = columns.get(place).filter(|it| !hidden.remove(*it)) {
                    hidden.insert(column.clone());
                }
            }
            _ => self.overlay = Overlay::None,
        }
    }

    pub(super) fn mouse(&mut self, mouse: MouseEvent, names: &dyn Names) -> Effect {
        match mouse.kind {
            MouseEventKind::ScrollUp => self.act(Action::Row(-3), names),
            MouseEventKind::ScrollDown => self.act(Action::Row(3), names),
            MouseEventKind::Down(MouseButton::Left) => {
                match self.target(mouse.column, mouse.row) {
                    Some(Target::Tab(tab)) => self.open_tab(tab, names),
                    Some(Target::Line(line)) => return self.click_line(line, names),
                    Some(Target::Row(place)) => self.click_row(place, names),
                    Some(Target::Heading(column)) => self.click_heading(column, names),
                    Some(Target::Health) => self.warn(1),
                    Some(Target::Frame(frame)) => return Effect::Seek(frame),
                    None => {}
                }
                Effect::None
            }
            _ => Effect::None,
        }
    }

    fn click_row(&mut self, place: usize, names: &dyn Names) {
        if let Some(overview) = &mut self.overview {
            overview.selected = None;
        }
        let key = self.tab().shown.rows.get(place).map(|row| row.key.clone());
        if key.is_some() && key == self.tab().view.selected && self.is_held() {
            return self.enter(names);
        }
        self.held_until = self.own.now.checked_add(HOLD);
        self.tab_mut().view.selected = key;
        let behind = self.behind();
        self.tab_mut().refresh_row(behind, names);
    }

    fn click_heading(&mut self, column: String, names: &dyn Names) {
        let is_again = self.tab().sort() == column;
        let view = &mut self.tab_mut().view;
        view.is_reversed = is_again && !view.is_reversed;
        view.sort = Some(column);
        self.look(names);
    }
}
