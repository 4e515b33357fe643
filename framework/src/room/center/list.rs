//! Owns what clients and operators are shown of rooms.

use super::{Inner, RoomCenter, away, checked_options};
use crate::{
    limits::{ROOMS_INFO_BYTES_MAX, ROOMS_PER_PAGE_MAX, ROOMS_SHOWN_MAX},
    msg::list_rooms,
    proto::{admin::rooms, link::RoomRecord},
    room::book::{List, seats},
    wire::Refusal,
};

/// Rooms of a page when nothing is said.
const PAGE: usize = 20;

impl RoomCenter {
    /// Rooms of a kind that are not private. A page is a stretch of all of them, of which a filter
    /// leaves out some: it may be short, and others follow.
    pub(super) async fn list_rooms(
        self,
        request: list_rooms::Req,
    ) -> Result<list_rooms::Res, Refusal> {
        let list_rooms::Req { kind, page, page_size, filter } = request;
        self.0.kind(&kind)?;
        let filter = checked_options(filter)?;
        let size = match usize::try_from(page_size).unwrap_or(usize::MAX) {
            0 => PAGE,
            said => said.min(ROOMS_PER_PAGE_MAX),
        };
        let offset = usize::try_from(page).unwrap_or(usize::MAX).saturating_mul(size);
        // More than Redis can count are no more than there are.
        let offset = offset.min(u32::MAX as usize);
        let mut listed =
            self.0.book.list(List::Public(&kind), offset, size + 1).await.map_err(away)?;
        let next_page = if listed.len() > size { page.saturating_add(1) } else { 0 };
        listed.truncate(size);
        let rooms = listed.into_iter().filter_map(|listed| listed.seen.record);
        let fits = |room: &RoomRecord| {
            room.opening_until_ms == 0 && filter.iter().all(|(k, v)| room.info.get(k) == Some(v))
        };
        let mut rooms: Vec<_> = rooms.filter(fits).map(shown).collect();
        bound_info(&mut rooms);
        Ok(list_rooms::Res { code: 0, rooms, next_page })
    }

    /// Every room, for operators.
    pub(super) async fn all_rooms(self, _: rooms::Req) -> Result<rooms::Res, Refusal> {
        let (mut rooms, mut offset) = (Vec::new(), 0);
        while rooms.len() < ROOMS_SHOWN_MAX {
            let listed = self.0.book.list(List::All, offset, ROOMS_PER_PAGE_MAX).await;
            let listed = listed.map_err(away)?;
            let last = listed.len() < ROOMS_PER_PAGE_MAX;
            offset += listed.len();
            rooms.extend(listed.into_iter().filter_map(|l| l.seen.record).map(|r| all_of(&r)));
            if last {
                return Ok(rooms::Res { rooms, more: false });
            }
        }
        let more = self.0.has_more(offset).await?;
        Ok(rooms::Res { rooms, more })
    }
}

impl Inner {
    async fn has_more(&self, offset: usize) -> Result<bool, Refusal> {
        Ok(!self.book.list(List::All, offset, 1).await.map_err(away)?.is_empty())
    }
}

fn shown(room: RoomRecord) -> list_rooms::Room {
    let members = u32::try_from(room.members.len()).unwrap_or(u32::MAX);
    let RoomRecord { room_id, kind, capacity, locked, info, .. } = room;
    list_rooms::Room { room_id, kind, members, capacity, locked, info }
}

/// Lets a page fit into a frame, whatever its rooms have told of themselves.
fn bound_info(rooms: &mut [list_rooms::Room]) {
    let mut left = ROOMS_INFO_BYTES_MAX;
    for room in rooms {
        // With what stands around a key and a value.
        let bytes = room.info.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => room.info.clear(),
        }
    }
}

fn all_of(room: &RoomRecord) -> rooms::Room {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let taken = usize::try_from(seats(room)).unwrap_or(usize::MAX);
    rooms::Room {
        kind: room.kind.clone(),
        room_id: room.room_id.clone(),
        node: room.node.clone(),
        members: count(room.members.len()),
        reserved: count(taken.saturating_sub(room.members.len())),
        capacity: room.capacity,
        locked: room.locked,
        private: room.private,
        opening: room.opening_until_ms > 0,
    }
}
