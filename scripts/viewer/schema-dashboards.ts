/** The dashboards of the schemas of the deployed pipeline. */
import { SchemaFiles } from "../../services/domain/schema-files.ts";
import { bucketOf } from "../clients/influxdb.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { readSchemaConfig } from "../cluster/event-schemas.ts";
import { readExternalStores } from "../cluster/external-stores.ts";
import type { Dashboard } from "../dashboards/definitions.ts";
import { schemaDashboard } from "../dashboards/schema-dashboard.ts";

/** One for each schema; a faulty schema, which the producer does not use either, has none. */
export async function deployedSchemaDashboards(cluster: Cluster): Promise<Dashboard[]> {
  const files = new SchemaFiles();
  files.read((await readSchemaConfig(cluster))?.data ?? {});
  const { bucket } = bucketOf(await readExternalStores(cluster));
  return [...files.schemas.byMeasurement.values()].map((schema) => schemaDashboard(schema, bucket));
}
