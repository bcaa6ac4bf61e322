//! A database's schema in words: what a dump of it has beside the rows, without the numbers of objects.

use tokio_postgres::Client;

use super::rows;

/// What is an application's own.
const OWN: &str = "NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'dagz_baseline')";

/// A line for each object; `{own}` stands for the rest of the condition that a namespace is of an application. Objects
/// that were there before any application have lower numbers than 16384.
const LINES: [&str; 24] = [
    "SELECT concat_ws(' ', 'relation', n.nspname, c.relname, c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity,
         c.relreplident, c.relowner::regrole, c.relacl::text, c.reloptions::text, c.relispopulated, pg_get_partkeydef(c.oid),
         pg_get_expr(c.relpartbound, c.oid), CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END)
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind NOT IN ('i', 'I') AND n.nspname {own}",
    "SELECT concat_ws(' ', 'column', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
         'identity', a.attidentity, 'generated', a.attgenerated, a.attislocal, a.attinhcount, a.attstattarget, a.attstorage,
         a.attoptions::text, a.attacl::text, pg_get_expr(d.adbin, d.adrelid))
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
     LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind NOT IN ('i', 'I', 'S') AND n.nspname {own}",
    "SELECT concat_ws(' ', 'constraint', n.nspname, o.conrelid::regclass, o.contypid::regtype, o.conname,
         pg_get_constraintdef(o.oid), o.convalidated)
     FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace WHERE n.nspname {own}",
    "SELECT concat_ws(' ', 'index', pg_get_indexdef(i.indexrelid), i.indisreplident, i.indisclustered)
     FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname {own}",
    "SELECT concat_ws(' ', 'trigger', t.tgrelid::regclass, t.tgfoid::regproc, t.tgconstrrelid::regclass, t.tgenabled,
         CASE WHEN NOT t.tgisinternal THEN pg_get_triggerdef(t.oid) END)
     FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname {own}",
    "SELECT concat_ws(' ', 'rule', w.ev_class::regclass, w.ev_enabled, pg_get_ruledef(w.oid))
     FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname {own}",
    "SELECT concat_ws(' ', 'policy', p::text) FROM pg_policies p",
    "SELECT concat_ws(' ', 'parent', i.inhrelid::regclass, i.inhparent::regclass, i.inhseqno)
     FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname {own}",
    "SELECT concat_ws(' ', 'sequence', s.seqrelid::regclass, s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax,
         s.seqmin, s.seqcache, s.seqcycle, d.refobjid::regclass, d.refobjsubid)
     FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid AND d.deptype IN ('a', 'i') WHERE n.nspname {own}",
    "SELECT concat_ws(' ', 'function', p.prokind, p.oid::regprocedure, p.proowner::regrole, p.proacl::text,
         CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END)
     FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname {own}",
    "SELECT concat_ws(' ', 'type', t.oid::regtype, t.typtype, t.typowner::regrole, t.typacl::text, t.typnotnull, t.typdefault,
         (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid))
     FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname {own}",
    "SELECT concat_ws(' ', 'schema', n.nspname, n.nspowner::regrole, n.nspacl::text) FROM pg_namespace n WHERE n.nspname {own}",
    "SELECT concat_ws(' ', 'comment', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description)
     FROM pg_description d WHERE d.objoid >= 16384",
    "SELECT concat_ws(' ', 'default rights', d.defaclrole::regrole, d.defaclnamespace::regnamespace, d.defaclobjtype, d.defaclacl::text)
     FROM pg_default_acl d",
    "SELECT concat_ws(' ', 'publication', p.pubname, p.puballtables, p.pubinsert, p.pubupdate,
         (SELECT string_agg(r.prrelid::regclass::text, ',' ORDER BY r.prrelid) FROM pg_publication_rel r WHERE r.prpubid = p.oid))
     FROM pg_publication p",
    "SELECT concat_ws(' ', 'cast', c.castsource::regtype, c.casttarget::regtype, c.castfunc::regproc, c.castcontext)
     FROM pg_cast c WHERE c.oid >= 16384",
    "SELECT concat_ws(' ', 'operator', o.oid::regoperator, o.oprcode, o.oprrest, o.oprjoin, o.oprowner::regrole)
     FROM pg_operator o WHERE o.oid >= 16384",
    "SELECT concat_ws(' ', 'collation', n.nspname, c.collname, c.collprovider, c.collcollate, c.collowner::regrole)
     FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE n.nspname {own}",
    "SELECT concat_ws(' ', 'conversion', n.nspname, c.conname, c.conproc, c.condefault)
     FROM pg_conversion c JOIN pg_namespace n ON n.oid = c.connamespace WHERE n.nspname {own}",
    "SELECT concat_ws(' ', 'text search', n.nspname, c.cfgname, m.maptokentype, m.mapseqno, m.mapdict::regdictionary)
     FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace LEFT JOIN pg_ts_config_map m ON m.mapcfg = c.oid
     WHERE n.nspname {own}",
    "SELECT concat_ws(' ', 'dictionary', n.nspname, d.dictname, d.dictinitoption)
     FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = d.dictnamespace WHERE n.nspname {own}",
    "SELECT concat_ws(' ', 'statistics', pg_get_statisticsobjdef(s.oid), s.stxstattarget) FROM pg_statistic_ext s",
    "SELECT concat_ws(' ', 'event trigger', e.evtname, e.evtevent, e.evtenabled, e.evtfoid::regproc, e.evttags::text)
     FROM pg_event_trigger e",
    "SELECT concat_ws(' ', 'settings', r.setrole, r.setconfig::text)
     FROM pg_db_role_setting r WHERE r.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
];

/// All that there is beside rows, in an order of its own.
pub(crate) async fn describe(client: &Client) -> String {
    let lines = LINES.join(" UNION ALL ").replace("{own}", OWN);
    let mut described = rows(client, &format!("SELECT * FROM ({lines}) l ORDER BY 1")).await;
    described.push(String::new());
    described.join("\n")
}
