//! The leaders' fence on the side of the engines: whatever an earlier leader still holds open is of no use to it.

use overlord_controllers::{Command, Engines};

use crate::{
    converge::{BOUND, converge},
    pool::Pool,
    run::check,
    world::World,
};

#[test]
fn a_leader_ends_the_connections_of_the_one_before() {
    let story = async |world: &mut World| -> Result<(), String> {
        world.start_controller();
        world.apply(Pool::nodes("orders", 3, 1)).await;
        converge(world, BOUND).await?;
        let all = crate::cluster::nodes(&world.hosts);
        let (address, node) =
            all.into_iter().find(|(_, node)| !node.is_master).ok_or("there is no replica")?;
        // Epochs beyond those of the controllers here. The order changes nothing, whoever gives it.
        let master = node.replica_of.ok_or("it copies nobody")?;
        let copy = Command::Replicate { master };
        let mut older = Engines::open(&world.hosts, address, 1_000_001).await?;
        older.run(&copy).await?;
        let mut newer = Engines::open(&world.hosts, address, 1_000_002).await?;
        newer.run(&copy).await?;
        if older.run(&copy).await.is_ok() {
            return Err("an order of an earlier leader was carried out".to_owned());
        }
        if Engines::open(&world.hosts, address, 1_000_001).await.is_ok() {
            return Err("an earlier leader may order again while its successor is there".to_owned());
        }
        newer.run(&copy).await
    };
    for seed in 0..3 {
        check("fence", seed, &story).unwrap_or_else(|failure| panic!("{failure}"));
    }
}
