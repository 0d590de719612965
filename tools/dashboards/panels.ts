// What the panels of all dashboards have in common, with the builders of Grafana's own SDK, whose types are the schema.
import * as common from '@grafana/grafana-foundation-sdk/common';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import { DataqueryBuilder } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as GraphBuilder } from '@grafana/grafana-foundation-sdk/timeseries';

const datasource = { type: 'prometheus', uid: '${datasource}' };

/** The series of the chosen namespaces, and where there is no such label, all. More matchers may follow. */
export const of = (metric: string, ...matchers: string[]) =>
  `${metric}{${['namespace=~"$namespace"', ...matchers].join(',')}}`;

/** The same, of the chosen processes alone. */
export const ofInstance = (metric: string, ...matchers: string[]) => of(metric, 'instance=~"$instance"', ...matchers);

export const quantile = (q: number, by: string, buckets: string) =>
  `histogram_quantile(${q}, sum by (${[by, 'le'].filter(Boolean).join(', ')}) (rate(${buckets}[$__rate_interval])))`;

/** A query, and what its series are called. */
export type Query = [expr: string, legend: string];

const targets = (queries: Query[], instant: boolean) =>
  queries.map(([expr, legend], i) => {
    const query = new DataqueryBuilder()
      .refId(String.fromCharCode(65 + i))
      .datasource(datasource)
      .expr(expr)
      .legendFormat(legend);
    return instant ? query.instant() : query.range();
  });

/** Colours from values on: the first is that of the smallest. */
export type Steps = [color: string, from: number | null][];

const thresholds = (steps: Steps) =>
  new dashboard.ThresholdsConfigBuilder()
    .mode(dashboard.ThresholdsMode.Absolute)
    .steps(steps.map(([color, value]) => ({ color, value })));

const neutral: Steps = [['blue', null]];

/** One number, for the top of a dashboard. */
export const stat = (
  title: string,
  description: string,
  unit: string,
  expr: string,
  steps: Steps = neutral,
  labels?: Record<string, { text: string; color: string }>,
) => {
  const panel = new StatBuilder()
    .title(title)
    .description(description)
    .datasource(datasource)
    .unit(unit)
    .targets(targets([[expr, title]], true))
    .thresholds(thresholds(steps))
    .colorMode(steps === neutral ? common.BigValueColorMode.Value : common.BigValueColorMode.Background)
    .graphMode(common.BigValueGraphMode.None)
    .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']))
    .noValue('no data')
    .height(4)
    .span(4);
  const special = { match: dashboard.SpecialValueMatch.NullAndNan, result: { text: 'no traffic', color: 'text' } };
  return panel.mappings([
    { type: dashboard.MappingType.SpecialValue, options: special },
    ...(labels ? [{ type: dashboard.MappingType.ValueToText as const, options: labels }] : []),
  ] as dashboard.ValueMapping[]);
};

interface GraphOptions {
  span?: number;
  stacked?: boolean;
  max?: number;
  steps?: Steps;
  colors?: Record<string, string>;
}

/** Lines over time, with a table of their last and largest values. */
export const graph = (
  title: string,
  description: string,
  unit: string,
  queries: Query[],
  options: GraphOptions = {},
) => {
  const panel = new GraphBuilder()
    .title(title)
    .description(description)
    .datasource(datasource)
    .unit(unit)
    .min(0)
    .targets(targets(queries, false))
    .lineWidth(1)
    .fillOpacity(options.stacked ? 30 : 8)
    .showPoints(common.VisibilityMode.Never)
    .thresholds(thresholds(options.steps ?? [['green', null]]))
    .legend(
      new common.VizLegendOptionsBuilder()
        .displayMode(common.LegendDisplayMode.Table)
        .placement(common.LegendPlacement.Bottom)
        .showLegend(true)
        .calcs(['lastNotNull', 'max']),
    )
    .tooltip(
      new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi).sort(common.SortOrder.Descending),
    )
    .height(8)
    .span(options.span ?? 8);
  if (options.stacked) panel.stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal).group('A'));
  if (options.max !== undefined) panel.max(options.max);
  if (options.steps) {
    panel.thresholdsStyle(new common.GraphThresholdsStyleConfigBuilder().mode(common.GraphThresholdsStyleMode.Dashed));
  }
  for (const [series, color] of Object.entries(options.colors ?? {})) {
    panel.overrideByRegexp(series, [{ id: 'color', value: { mode: 'fixed', fixedColor: color } }]);
  }
  return panel;
};

export type Row = [title: string, panels: (StatBuilder | GraphBuilder)[]];

/** A dashboard with links to the others, and a mark where a new build began to run. */
export const board = (uid: string, title: string, description: string, rows: Row[], instances?: string) => {
  const variable = (name: string, label: string, query: string) =>
    new dashboard.QueryVariableBuilder(name)
      .label(label)
      .datasource(datasource)
      .query({ query, refId: name })
      .refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
      .includeAll(true)
      .allValue('.*')
      .multi(true)
      .current({ text: 'All', value: '$__all' });
  const build = of('fibstack_build_info');
  // The form that every Grafana reads from a file, where the newer one is its own API's.
  // eslint-disable-next-line @typescript-eslint/no-deprecated
  const result = new dashboard.DashboardBuilder(title)
    .uid(uid)
    .description(description)
    .tags(['fibstack'])
    .editable()
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .refresh('30s')
    .time({ from: 'now-1h', to: 'now' })
    .timezone('browser')
    .link(
      new dashboard.DashboardLinkBuilder('fibstack')
        .type(dashboard.DashboardLinkType.Dashboards)
        .tags(['fibstack'])
        .asDropdown(false)
        .includeVars(true)
        .keepTime(true),
    )
    .annotation(
      new dashboard.AnnotationQueryBuilder()
        .name('Deployments')
        .datasource(datasource)
        .enable(true)
        .iconColor('purple')
        .expr(`count by (service, version) (${build}) unless count by (service, version) (${build} offset 1m)`)
        .step('1m')
        .titleFormat('{{service}}')
        .textFormat('{{version}}'),
    )
    .withVariable(new dashboard.DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'))
    .withVariable(variable('namespace', 'Namespace', 'label_values(fibstack_build_info, namespace)'));
  if (instances) result.withVariable(variable('instance', 'Instance', `label_values(${of(instances)}, instance)`));
  for (const [row, panels] of rows) {
    result.withRow(new dashboard.RowBuilder(row));
    for (const panel of panels) result.withPanel(panel);
  }
  const built = result.build();
  built.panels?.forEach((panel, i) => (panel.id = i + 1));
  // The builders would hide links and annotations in a menu.
  for (const visible of [...(built.links ?? []), ...(built.annotations.list ?? [])]) delete visible.placement;
  return built;
};
