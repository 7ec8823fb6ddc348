"""Count and average a million made-up taxi rides by district, on all nodes of a Ray cluster."""

import daft
from daft import DataType, col

PARTITIONS = 8
RIDES = 1_000_000
DISTRICTS = ["Centre", "Harbour", "North", "Old Town", "South"]


@daft.func(return_dtype=DataType.string())
def node_of(ride: int) -> str:
    """Return the Ray node that works on this row."""
    import ray

    return ray.get_runtime_context().get_node_id()[:8]


daft.set_runner_ray()

rides = daft.range(RIDES, partitions=PARTITIONS).with_columns(
    {
        "number": col("id") % len(DISTRICTS),
        "metres": (col("id") * 7919) % (5_000 + 3_000 * (col("id") % len(DISTRICTS))),
    }
)
districts = daft.from_pydict({"number": list(range(len(DISTRICTS))), "district": DISTRICTS})
by_district = (
    rides.join(districts, on="number")
    .groupby("district")
    .agg(col("id").count().alias("rides"), (col("metres").mean() / 1000).round(2).alias("mean_km"))
)
by_district.sort("district").show()

nodes = (
    daft.range(400, partitions=PARTITIONS)
    .select(node_of(col("id")).alias("node"))
    .distinct()
    .to_pydict()["node"]
)
print(f"computed on {len(nodes)} Ray nodes")
