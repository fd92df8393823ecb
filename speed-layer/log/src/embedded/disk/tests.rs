use super::*;

#[test]
fn a_tenth_of_a_small_disk_and_a_fixed_part_of_a_large_one_stay_free() {
    let small = DiskSpace {
        free_bytes: 150,
        total_bytes: 1_000,
    };
    assert_eq!(small.reserve_bytes(), 100);
    assert!(small.has_room_for(50) && !small.has_room_for(51));
    let large = DiskSpace {
        free_bytes: 300 << 20,
        total_bytes: 1 << 50,
    };
    assert_eq!(large.reserve_bytes(), 256 << 20);
    assert!(large.has_room_for(44 << 20) && !large.has_room_for((44 << 20) + 1));
}

#[cfg(unix)]
#[test]
fn the_system_tells_of_a_real_folder() {
    let found = space(&std::env::temp_dir()).unwrap();
    assert!(
        0 < found.free_bytes && found.free_bytes <= found.total_bytes,
        "{found:?}"
    );
    assert_eq!(space(Path::new("/no/such/folder")), None);
}
