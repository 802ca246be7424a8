//! The nodes that have a place and found nothing to do.

use crate::random::Generator;

/// A set of nodes of which one can be drawn by lot.
#[derive(Debug, Default)]
pub(super) struct IdleNodes {
    nodes: Vec<usize>,
    /// Where in `nodes` each is.
    at: Vec<Option<usize>>,
}

impl IdleNodes {
    pub(super) fn set(&mut self, node: usize, is_idle: bool) {
        if self.at.len() <= node {
            self.at.resize(node + 1, None);
        }
        match (self.at[node], is_idle) {
            (None, true) => {
                self.at[node] = Some(self.nodes.len());
                self.nodes.push(node);
            }
            (Some(at), false) => {
                self.nodes.swap_remove(at);
                self.at[node] = None;
                if let Some(moved) = self.nodes.get(at) {
                    self.at[*moved] = Some(at);
                }
            }
            _ => {}
        }
    }

    /// One of them by lot; `None` if there is none.
    pub(super) fn draw(&self, generator: &mut Generator) -> Option<usize> {
        (!self.nodes.is_empty()).then(|| self.nodes[generator.index(self.nodes.len())])
    }
}
