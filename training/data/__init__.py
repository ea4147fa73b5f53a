"""From parts to batches: `plan` which objects in which order, `fetch` them, `features` turns them into inputs."""
