//! Where one goes: rows, groups, back, and to earlier readings.

use super::keys::Action;
use super::state::{HOLD, State};
use crate::schema::Names;

impl State {
    pub(super) fn pause(&mut self, names: &dyn Names) {
        self.paused = match self.paused {
            None => Some(0),
            Some(_) => None,
        };
        if self.paused.is_none() {
            self.look(names);
        }
    }

    /// Goes back or ahead by so many readings; pauses.
    pub(super) fn step(&mut self, step: isize, names: &dyn Names) {
        let oldest = self.tab().feed.len().saturating_sub(1);
        let behind = self.behind();
        self.paused = Some(behind.saturating_add_signed(-step).min(oldest));
        self.look(names);
    }

    /// The first of these that applies: leaves a detail, clears the filter, thaws the
    /// order, goes on.
    pub(super) fn back(&mut self, names: &dyn Names) {
        let view = &mut self.tab_mut().view;
        if view.is_detail {
            view.is_detail = false;
        } else if !view.filter.is_empty() {
            view.filter.clear();
        } else if view.is_frozen {
            view.is_frozen = false;
        } else if self.paused.take().is_none() {
            if self.overview.is_none() {
                return;
            }
            self.open_tab(0, names);
        }
        self.look(names);
    }

    pub(super) fn enter(&mut self, names: &dyn Names) {
        if self.enter_line(names) {
            return;
        }
        let tab = self.tab();
        let Some(row) = tab.selected() else {
            return;
        };
        if tab.is_group(row) {
            self.open_group(true, names);
        } else {
            let behind = self.behind();
            let tab = self.tab_mut();
            tab.view.is_detail = true;
            tab.refresh_row(behind, names);
        }
    }

    pub(super) fn open_group(&mut self, is_open: bool, names: &dyn Names) {
        let tab = self.tab();
        let Some(row) = tab.selected().filter(|row| tab.is_group(row)) else {
            return;
        };
        let key = row.key.clone();
        let open = &mut self.tab_mut().view.open;
        if is_open {
            open.insert(key)
        } else {
            open.remove(&key)
        };
        self.look(names);
    }

    /// Selects another row; holds the order.
    pub(super) fn go(&mut self, action: Action, names: &dyn Names) {
        if self.go_line(action) {
            return;
        }
        self.held_until = self.own.now.checked_add(HOLD);
        let page = self.rows_shown().saturating_sub(1).max(1) as isize;
        let tab = self.tab_mut();
        let Some(last) = tab.shown.rows.len().checked_sub(1) else {
            return;
        };
        let place = tab.place();
        let moved = |step: isize| match place {
            Some(place) => place.saturating_add_signed(step).min(last),
            None => tab.view.first.min(last),
        };
        let place = match action {
            Action::Row(step) => moved(step),
            Action::Page(step) => moved(step * page),
            Action::LastRow => last,
            _ => 0,
        };
        tab.view.selected = Some(tab.shown.rows[place].key.clone());
        let behind = self.behind();
        self.tab_mut().refresh_row(behind, names);
        self.show_selected();
    }

    /// Scrolls until the selected row is on the screen.
    pub(super) fn show_selected(&mut self) {
        let rows = self.rows_shown().max(1);
        let tab = self.tab_mut();
        let Some(place) = tab.place() else {
            return;
        };
        let first = tab.view.first.min(place);
        tab.view.first = first.max((place + 1).saturating_sub(rows));
    }
}
