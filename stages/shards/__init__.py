"""Work in shards, on this machine or on a Ray cluster; what stages share, and no stage itself.

The rows to work on are copied into a file whose row groups are the shards. A worker reads one,
writes what came of it as a folder of small tables, and the folders are joined in order: the result
is the same whoever did which shard when, and what is finished is never done again.
"""
