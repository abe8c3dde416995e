//! A queue for what there is mostly one of.

use std::collections::VecDeque;

/// First in, first out. The first element needs no memory besides that of its owner.
pub(crate) struct Few<T> {
    /// Before the others.
    first: Option<T>,
    others: VecDeque<T>,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { first: None, others: VecDeque::new() }
    }
}

impl<T> Few<T> {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.is_empty()
    }

    /// Adds an element. The second one makes room for `others` in all, itself included.
    pub(super) fn push(&mut self, element: T, others: usize) {
        if self.is_empty() {
            self.first = Some(element);
            return;
        }
        if self.others.is_empty() {
            self.others.reserve_exact(others);
        }
        self.others.push_back(element);
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        // Written so that the element is moved once.
        if self.first.is_some() { self.first.take() } else { self.others.pop_front() }
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.first.as_ref().or_else(|| self.others.front())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.others)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.first.iter_mut().chain(&mut self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_first_goes_first_however_pushes_and_pops_are_mixed() {
        let (mut few, mut model) = (Few::default(), VecDeque::new());
        let mut random = fastrand::Rng::with_seed(1);
        for n in 0..10_000 {
            if random.u8(..) < 120 {
                few.push(n, 31);
                model.push_back(n);
            } else {
                assert_eq!(few.pop(), model.pop_front());
            }
            assert_eq!((few.len(), few.is_empty()), (model.len(), model.is_empty()));
            assert_eq!(few.front(), model.front());
            assert!(few.iter().eq(&model));
        }
    }
}
